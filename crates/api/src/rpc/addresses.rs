//! Methods of Core's category `network` that speak of bans and of addresses of other nodes.

use super::args::{Arg, Args, Kind, as_int};
use super::error::{RpcError, RpcResult, code, fail};
use super::network::networking;
use super::render::object;
use super::{Context, Method, help};
use cairn_p2p::address::{Host, Net, NetAddress};
use cairn_p2p::bans::{BanError, BanTime};
use serde_json::{Map, Value};

pub(super) const METHODS: &[Method] = &[
    Method {
        category: "network",
        name: "setban",
        args: &[
            Arg::required("subnet", Kind::Str, "The IP/Subnet with an optional netmask (default is /32 = single IP)"),
            Arg::required(
                "command",
                Kind::Str,
                "'add' to add an IP/Subnet to the list, 'remove' to remove one from it",
            ),
            Arg::optional(
                "bantime",
                Kind::Num,
                "0",
                "Time in seconds how long (or until when if absolute is set) the IP is banned; 0 is 24 hours",
            ),
            Arg::optional("absolute", Kind::Bool, "false", "If set, the bantime is a time since 1970"),
        ],
        about: "Attempts to add or remove an IP/Subnet from the banned list.",
        result: "null",
        differences: "",
        run: setban,
    },
    Method {
        category: "network",
        name: "listbanned",
        args: &[],
        about: "List all manually banned IPs/Subnets.",
        result: "[ { \"address\", \"ban_created\", \"banned_until\", \"ban_duration\", \"time_remaining\" } ]",
        differences: "",
        run: listbanned,
    },
    Method {
        category: "network",
        name: "clearbanned",
        args: &[],
        about: "Clear all banned IPs.",
        result: "null",
        differences: "",
        run: |context, _| {
            networking(context)?.handle.clear_bans()?;
            Ok(Value::Null)
        },
    },
    Method {
        category: "network",
        name: "getnodeaddresses",
        args: &[
            Arg::optional(
                "count",
                Kind::Num,
                "1",
                "The maximum number of addresses to return; 0 returns all known ones",
            ),
            Arg::optional("network", Kind::Str, "", "Return only addresses of the specified network"),
        ],
        about: "Return known addresses, after filtering for quality and recency.\n\
                These can potentially be used to find new peers in the network.\n\
                The total number of addresses known to the node may be higher.",
        result: "[ { \"time\", \"services\", \"address\", \"port\", \"network\" } ]",
        differences: "",
        run: getnodeaddresses,
    },
    Method {
        category: "hidden",
        name: "addpeeraddress",
        args: &[
            Arg::required("address", Kind::Str, "The IP address of the peer"),
            Arg::required("port", Kind::Num, "The port of the peer"),
            Arg::optional(
                "tried",
                Kind::Bool,
                "false",
                "If true, attempt to add the peer to the tried addresses table",
            ),
        ],
        about: "Add the address of a potential peer to an address manager table. This RPC is for testing only.",
        result: "{ \"success\", \"error\" }",
        differences: "",
        run: addpeeraddress,
    },
    Method {
        category: "network",
        name: "getaddrmaninfo",
        args: &[],
        about: "Provides information about the node's address manager by returning the number of addresses in the `new` and \
                `tried` tables and their sum for all networks.",
        result: "{ NETWORK or \"all_networks\": { \"new\", \"tried\", \"total\" } }",
        differences: "",
        run: getaddrmaninfo,
    },
];

impl From<BanError> for RpcError {
    fn from(error: BanError) -> Self {
        let code = match error {
            BanError::Invalid | BanError::NotBanned => code::CLIENT_INVALID_IP_OR_SUBNET,
            BanError::AlreadyBanned => code::CLIENT_NODE_ALREADY_ADDED,
            BanError::Past => code::INVALID_PARAMETER,
        };
        RpcError::new(code, error.to_string())
    }
}

fn setban(context: &Context, args: &Args<'_>) -> RpcResult {
    let (subnet, command) = (args.str(0)?.to_owned(), args.str(1)?);
    let network = &networking(context)?.handle;
    match command {
        "add" => {
            let seconds = if args.get(2).is_null() { 0 } else { as_int::<i64>(args.get(2))? };
            let time = if args.bool_or(3, false)? { BanTime::Until(seconds) } else { BanTime::For(seconds) };
            network.ban(subnet, time)??;
        }
        "remove" => network.unban(subnet)??,
        _ => return fail(code::MISC_ERROR, help::command_text("setban")),
    }
    Ok(Value::Null)
}

fn listbanned(context: &Context, _: &Args<'_>) -> RpcResult {
    let bans = networking(context)?.handle.bans()?;
    let shown = bans.iter().map(|ban| {
        object([
            ("address", ban.address.to_string().into()),
            ("ban_created", ban.ban_created.into()),
            ("banned_until", ban.banned_until.into()),
            ("ban_duration", ban.ban_duration.into()),
            ("time_remaining", ban.time_remaining.into()),
        ])
        .into()
    });
    Ok(Value::Array(shown.collect()))
}

fn getnodeaddresses(context: &Context, args: &Args<'_>) -> RpcResult {
    let network = networking(context)?;
    let count = usize::try_from(args.int_or(0, 1)?)
        .map_err(|_| RpcError::new(code::INVALID_PARAMETER, "Address count out of range"))?;
    let of = match args.get(1).is_null() {
        true => None,
        false => {
            let name = args.str(1)?;
            let unknown = || RpcError::new(code::INVALID_PARAMETER, format!("Network not recognized: {name}"));
            Some(Net::from_name(name).ok_or_else(unknown)?)
        }
    };
    let drawn = network.handle.addresses(count, of)?;
    let shown = drawn.iter().map(|record| {
        object([
            ("time", record.time.as_secs().into()),
            ("services", record.services.to_u64().into()),
            ("address", record.address.host.to_string().into()),
            ("port", record.address.port.into()),
            ("network", record.address.host.net_class().name().into()),
        ])
        .into()
    });
    Ok(Value::Array(shown.collect()))
}

fn addpeeraddress(context: &Context, args: &Args<'_>) -> RpcResult {
    let (text, port) = (args.str(0)?, as_int::<u16>(args.get(1))?);
    let tried = args.bool_or(2, false)?;
    let Ok(host) = text.parse::<Host>() else {
        return fail(code::CLIENT_INVALID_IP_OR_SUBNET, "Invalid IP address");
    };
    let taken = networking(context)?.handle.add_address(NetAddress::new(host, port), tried)?;
    let mut out = Map::new();
    if let Err(error) = taken {
        out.insert("error".into(), error.to_string().into());
    }
    out.insert("success".into(), taken.is_ok().into());
    Ok(out.into())
}

fn getaddrmaninfo(context: &Context, _: &Args<'_>) -> RpcResult {
    let counts = networking(context)?.handle.address_counts()?;
    let shown = counts.iter().map(|count| {
        let inside = object([
            ("new", count.new.into()),
            ("tried", count.tried.into()),
            ("total", (count.new + count.tried).into()),
        ]);
        (count.network.map_or("all_networks", Net::name).to_owned(), inside.into())
    });
    Ok(Value::Object(shown.collect()))
}

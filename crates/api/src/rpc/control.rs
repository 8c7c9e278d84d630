//! Methods of Core's category `control`.

use super::args::{Arg, Args, Kind};
use super::error::{RpcResult, code, fail};
use super::{Context, Method, help};
use bitcoin::Network;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(super) const METHODS: &[Method] = &[
    Method {
        category: "control",
        name: "help",
        args: &[Arg::optional("command", Kind::Str, "all commands", "The command to get help on")],
        about: "List all commands, or get help for a specified command.",
        result: "\"str\"    (string) The help text",
        differences: "the texts are our own; every method's says how it differs from Core",
        run: help,
    },
    Method {
        category: "control",
        name: "stop",
        args: &[Arg::optional("wait", Kind::Num, "", "how long to wait in ms")],
        about: "Request a graceful shutdown of Cairn.",
        result: "\"str\"    (string) A string with the content 'Cairn stopping'",
        differences: "says \"Cairn stopping\"; stops the whole process, not only the node in it",
        run: stop,
    },
    Method {
        category: "control",
        name: "uptime",
        args: &[],
        about: "Returns the total uptime of the server.",
        result: "n    (numeric) The number of seconds that the server has been running",
        differences: "",
        run: uptime,
    },
    Method {
        category: "control",
        name: "getrpcinfo",
        args: &[],
        about: "Returns details of the RPC server.",
        result: "{ \"active_commands\": [ { \"method\", \"duration\" (microseconds) } ], \"logpath\" }",
        differences: "`logpath` is empty: the log goes to standard error",
        run: getrpcinfo,
    },
    Method {
        category: "hidden",
        name: "setmocktime",
        args: &[Arg::required(
            "timestamp",
            Kind::Num,
            "UNIX epoch time in seconds. Pass 0 to go back to using the system time.",
        )],
        about: "Set the local time to given timestamp (-regtest only)",
        result: "null",
        differences: "wallet, stamps and HTTP keep the system's time",
        run: setmocktime,
    },
];

/// The calls being served, for `getrpcinfo`.
#[derive(Default)]
pub(crate) struct ActiveCalls(Arc<Mutex<Calls>>);

/// The last call's number; method and start of every call by its number.
type Calls = (u64, HashMap<u64, (&'static str, Instant)>);

/// Removes its call when dropped.
pub(crate) struct ActiveCall(Arc<Mutex<Calls>>, u64);

impl ActiveCalls {
    /// Notes a call until the guard is dropped.
    pub(crate) fn enter(&self, method: &'static str) -> ActiveCall {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.0 += 1;
        let id = calls.0;
        calls.1.insert(id, (method, Instant::now()));
        ActiveCall(self.0.clone(), id)
    }
}

impl Drop for ActiveCall {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&self.1);
    }
}

fn help(_: &Context, args: &Args<'_>) -> RpcResult {
    Ok(match args.get(0) {
        Value::String(command) if !command.is_empty() => help::command_text(command).into(),
        _ => help::list_text().into(),
    })
}

fn stop(context: &Context, args: &Args<'_>) -> RpcResult {
    let wait = u64::try_from(args.int_or(0, 0)?).unwrap_or(0);
    if wait > 0 {
        // The reply comes after the wait, as Core's does; at most a minute, so that no thread is held for ever.
        std::thread::sleep(Duration::from_millis(wait.min(60_000)));
    }
    context.stop.cancel();
    Ok("Cairn stopping".into())
}

fn uptime(context: &Context, _: &Args<'_>) -> RpcResult {
    Ok(context.node.uptime().as_secs().into())
}

fn setmocktime(context: &Context, args: &Args<'_>) -> RpcResult {
    if context.network != Network::Regtest {
        return fail(code::MISC_ERROR, "setmocktime is for regression testing (-regtest mode) only");
    }
    let time = args.i64(0)?;
    let Ok(seconds) = u32::try_from(time) else {
        let text = format!("Mocktime must be in the range [0, {}], not {time}.", u32::MAX);
        return fail(code::INVALID_PARAMETER, text);
    };
    context.node.clock().set_mock_time(seconds);
    Ok(Value::Null)
}

fn getrpcinfo(context: &Context, _: &Args<'_>) -> RpcResult {
    let calls = context.active.0.lock().unwrap_or_else(PoisonError::into_inner);
    let mut calls: Vec<_> = calls.1.iter().collect();
    calls.sort_unstable_by_key(|(id, _)| **id);
    let calls: Vec<Value> = calls
        .into_iter()
        .map(|(_, (method, since))| {
            json!({"method": method, "duration": u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)})
        })
        .collect();
    Ok(json!({"active_commands": calls, "logpath": ""}))
}

//! Types of messages within encrypted packets: one byte for those that BIP 324 lists, else a zero and 12 bytes.

use crate::message::Command;

/// Core's `V2_MESSAGE_IDS`. Those without a name are kept free, or for what Core does not have.
const NAMES: [&str; 38] = [
    "", // 12 bytes follow
    "addr",
    "block",
    "blocktxn",
    "cmpctblock",
    "feefilter",
    "filteradd",
    "filterclear",
    "filterload",
    "getblocks",
    "getblocktxn",
    "getdata",
    "getheaders",
    "headers",
    "inv",
    "mempool",
    "merkleblock",
    "notfound",
    "ping",
    "pong",
    "sendcmpct",
    "tx",
    "getcfilters",
    "cfilter",
    "getcfheaders",
    "cfheaders",
    "getcfcheckpt",
    "cfcheckpt",
    "addrv2",
    "",
    "",
    "",
    "",
    "",
    "",
    "",
    "",
    "feature",
];

/// What goes before a message's payload.
pub(super) fn write_command(command: Command, contents: &mut Vec<u8>) {
    match short_id(command) {
        Some(id) => contents.push(id),
        None => {
            contents.push(0);
            contents.extend(command.to_wire());
        }
    }
}

/// Bytes that [`write_command`] writes.
pub(super) fn command_length(command: Command) -> usize {
    if short_id(command).is_some() { 1 } else { 1 + Command::LENGTH }
}

/// The type of the message with these contents, and where its payload begins; none if there is no such type, for which
/// Core drops a message. A free id is a type without a name, which nobody knows.
pub(super) fn read_command(contents: &[u8]) -> Option<(Command, usize)> {
    let (&id, rest) = contents.split_first()?;
    if id == 0 {
        let command = Command::from_wire(*rest.first_chunk()?)?;
        return Some((command, 1 + Command::LENGTH));
    }
    let name = NAMES.get(usize::from(id))?;
    Some((Command::new(name).expect("names here are short and printable"), 1))
}

fn short_id(command: Command) -> Option<u8> {
    let name = command.as_str();
    if name.is_empty() {
        return None;
    }
    let id = NAMES.iter().position(|&known| known == name)?;
    Some(u8::try_from(id).expect("there are 38"))
}

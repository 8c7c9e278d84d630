//! Reading and editing scripts as bytes, exactly as Core does.

use bitcoin::opcodes::Opcode;
use bitcoin::opcodes::all::*;
use std::borrow::Cow;

/// A push that runs past the end of its script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Truncated;

/// Reads operations one by one: Core's `GetScriptOp`.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    script: &'a [u8],
    /// Where the next operation starts. After [`Truncated`] it is past what could be read, as Core's `pc` is: legacy
    /// signature hashes depend on it.
    pub(crate) position: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(script: &'a [u8]) -> Self {
        Self { script, position: 0 }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Truncated> {
        let data = self.script[self.position..].get(..length).ok_or(Truncated)?;
        self.position += length;
        Ok(data)
    }
}

impl<'a> Iterator for Reader<'a> {
    /// The operation, and what it pushes if it is at most PUSHDATA4.
    type Item = Result<(Opcode, &'a [u8]), Truncated>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let code = *self.script.get(self.position)?;
        self.position += 1;
        let opcode = Opcode::from(code);
        let length_size = match opcode {
            _ if code < OP_PUSHDATA1.to_u8() => return Some(self.take(code.into()).map(|data| (opcode, data))),
            OP_PUSHDATA1 => 1,
            OP_PUSHDATA2 => 2,
            OP_PUSHDATA4 => 4,
            _ => return Some(Ok((opcode, &[]))),
        };
        let data = self.take(length_size).and_then(|length| {
            let length = length.iter().rev().fold(0usize, |value, byte| value << 8 | usize::from(*byte));
            self.take(length)
        });
        Some(data.map(|data| (opcode, data)))
    }
}

/// Whether a script can be read to its end and only pushes. As in Core, RESERVED counts as a push (it fails anyway).
pub fn is_push_only(script: &[u8]) -> bool {
    Reader::new(script).all(|operation| operation.is_ok_and(|(opcode, _)| opcode.to_u8() <= OP_PUSHNUM_16.to_u8()))
}

/// Whether Tapscript succeeds at once on this opcode (BIP 342).
pub(crate) fn is_op_success(opcode: Opcode) -> bool {
    matches!(opcode.to_u8(), 80 | 98 | 126..=129 | 131..=134 | 137..=138 | 141..=142 | 149..=153 | 187..=254)
}

/// Whether `opcode` (at most PUSHDATA4) is the shortest way to push `data`.
pub(crate) fn is_minimal_push(data: &[u8], opcode: Opcode) -> bool {
    let shortest = match *data {
        // A numeric opcode would have pushed it.
        [1..=16 | 0x81] => return false,
        _ if data.len() <= 75 => return usize::from(opcode.to_u8()) == data.len(),
        _ if data.len() <= 0xff => OP_PUSHDATA1,
        _ if data.len() <= 0xffff => OP_PUSHDATA2,
        _ => return true,
    };
    opcode == shortest
}

/// The script that pushes `data` by length alone, never by a numeric opcode: Core's `CScript() << data`.
pub(crate) fn push(data: &[u8]) -> Vec<u8> {
    let mut script = Vec::with_capacity(data.len() + 5);
    let length = data.len().to_le_bytes();
    match data.len() {
        0..=75 => script.push(length[0]),
        76..=0xff => script.extend_from_slice(&[OP_PUSHDATA1.to_u8(), length[0]]),
        0x100..=0xffff => script.extend_from_slice(&[OP_PUSHDATA2.to_u8(), length[0], length[1]]),
        _ => {
            script.push(OP_PUSHDATA4.to_u8());
            script.extend_from_slice(&length[..4]);
        }
    }
    script.extend_from_slice(data);
    script
}

/// Removes `pattern` (not empty) from `script` wherever it stands at the start of an operation. Borrows if it is nowhere.
pub(crate) fn find_and_delete<'a>(script: Cow<'a, [u8]>, pattern: &[u8]) -> Cow<'a, [u8]> {
    let mut result: Option<Vec<u8>> = None;
    let mut kept = 0;
    let mut reader = Reader::new(&script);
    loop {
        let boundary = reader.position;
        while script[reader.position..].starts_with(pattern) {
            reader.position += pattern.len();
        }
        if reader.position != boundary {
            result.get_or_insert_default().extend_from_slice(&script[kept..boundary]);
            kept = reader.position;
        }
        if !matches!(reader.next(), Some(Ok(_))) {
            break;
        }
    }
    match result {
        None => script,
        Some(mut result) => {
            result.extend_from_slice(&script[kept..]);
            Cow::Owned(result)
        }
    }
}

/// The version and program of a witness program (BIP 141): a one-byte numeric opcode and a push of 2 to 40 bytes.
pub fn witness_program(script: &[u8]) -> Option<(u8, &[u8])> {
    let [version, length, program @ ..] = script else { return None };
    let version = match *version {
        0 => 0,
        version @ 0x51..=0x60 => version - 0x50,
        _ => return None,
    };
    ((2..=40).contains(&program.len()) && usize::from(*length) == program.len()).then_some((version, program))
}

/// Whether a script is a pay-to-script-hash output (BIP 16).
pub fn is_p2sh(script: &[u8]) -> bool {
    script.len() == 23 && script[..2] == [OP_HASH160.to_u8(), OP_PUSHBYTES_20.to_u8()] && script[22] == OP_EQUAL.to_u8()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn deleted(script: &[u8], pattern: &[u8]) -> Vec<u8> {
        find_and_delete(script.into(), pattern).into_owned()
    }

    // The cases of Core's script_FindAndDelete.
    #[test]
    fn find_and_delete_follows_operations() {
        assert_eq!(deleted(&[0x51, 0x52], &[0x52]), [0x51]);
        assert_eq!(deleted(&[0x51, 0x52, 0x51, 0x53, 0x51, 0x54], &[0x51]), [0x52, 0x53, 0x54]);
        assert_eq!(deleted(&[3, 2, 0xff, 3], &[3, 2, 0xff, 3]), []);
        assert_eq!(deleted(&[3, 2, 0xff, 3, 3, 2, 0xff, 3], &[3, 2, 0xff, 3]), []);
        // Inside a push nothing is found.
        assert_eq!(deleted(&[3, 2, 0xff, 3, 3, 2, 0xff, 3], &[2]), [3, 2, 0xff, 3, 3, 2, 0xff, 3]);
        assert_eq!(deleted(&[3, 2, 0xff, 3, 3, 2, 0xff, 3], &[0xff]), [3, 2, 0xff, 3, 3, 2, 0xff, 3]);
        // The start of a push may be removed, which changes what follows.
        assert_eq!(deleted(&[3, 2, 0xff, 3, 3, 2, 0xff, 3], &[3]), [2, 0xff, 3, 2, 0xff, 3]);
        assert_eq!(deleted(&[2, 0xfe, 0xed, 0x51, 0x69], &[0xfe, 0xed, 0x51]), [2, 0xfe, 0xed, 0x51, 0x69]);
        assert_eq!(deleted(&[2, 0xfe, 0xed, 0x51, 0x69], &[2, 0xfe, 0xed, 0x51]), [0x69]);
        assert_eq!(deleted(&[0x51, 0x69, 0x51, 0x69], &[0x51, 0x69]), []);
        // One pass only.
        assert_eq!(deleted(&[0x51, 0x51, 0x69, 0x69], &[0x51, 0x69]), [0x51, 0x69]);
        // Truncated tails stay, and are deleted if they match.
        assert_eq!(deleted(&[0x00, 0x03, 0xff], &[0x00]), [0x03, 0xff]);
        assert_eq!(deleted(&[0x51, 3, 0xff, 3], &[3, 0xff, 3]), [0x51]);
    }

    #[test]
    fn pushes() {
        for (length, shortest) in
            [(0, 0), (1, 1), (2, 2), (75, 75), (76, 0x4c), (77, 0x4c), (255, 0x4c), (256, 0x4d), (65535, 0x4d)]
        {
            let data = vec![0x77; length];
            let script = push(&data);
            let mut reader = Reader::new(&script);
            assert_eq!(reader.next(), Some(Ok((Opcode::from(shortest), data.as_slice()))));
            assert!(reader.next().is_none());
            for opcode in 0..=OP_PUSHDATA4.to_u8() {
                assert_eq!(is_minimal_push(&data, Opcode::from(opcode)), opcode == shortest, "{length} {opcode}");
            }
        }
        let data = vec![0x77; 65536];
        assert_eq!(push(&data), [&[0x4e, 0, 0, 1, 0][..], &data].concat());
        assert!(is_minimal_push(&data, OP_PUSHDATA4));
        // What a numeric opcode pushes has no minimal push by length; it is how Core's `<<` writes it all the same.
        for number in (1..=16).chain([0x81]) {
            assert!(!is_minimal_push(&[number], OP_PUSHBYTES_1));
            assert_eq!(push(&[number]), [1, number]);
        }
        assert!(is_minimal_push(&[0], OP_PUSHBYTES_1) && is_minimal_push(&[17], OP_PUSHBYTES_1));
    }

    #[test]
    fn truncated_pushes_stop_where_core_stops() {
        for (script, position) in [
            (&[0x05, 1, 2][..], 1),
            (&[0x4c], 1),
            (&[0x4c, 2, 1], 2),
            (&[0x4d, 1], 1),
            (&[0x4d, 1, 1, 9], 3),
            (&[0x4e, 1, 0, 0], 1),
            (&[0x4e, 0xff, 0xff, 0xff, 0xff, 1], 5),
        ] {
            let mut reader = Reader::new(script);
            assert_eq!(reader.next(), Some(Err(Truncated)));
            assert_eq!(reader.position, position);
        }
    }

    proptest! {
        #[test]
        fn deleting_never_panics(
            script in prop::collection::vec(any::<u8>(), 0..64),
            pattern in prop::collection::vec(any::<u8>(), 1..3),
        ) {
            let result = deleted(&script, &pattern);
            prop_assert_eq!((script.len() - result.len()) % pattern.len(), 0);
        }
    }
}

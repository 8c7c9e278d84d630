//! `peers.dat`.

use std::path::Path;

use bitcoin::p2p::{Magic, ServiceFlags};
use rand::rngs::StdRng;

use super::AddrMan;
use super::entry::{AddrInfo, Slot, slot, time, tried_bucket};
use super::tables::Tables;
use crate::address::NetAddress;
use crate::limits::{ADDRMAN_NEW_BUCKETS_PER_ADDRESS, MAX_PEERS_FILE_SIZE};
use crate::persist::{self, Damage, Format, Loaded, PersistError, Reader, write_host};

pub(super) const FORMAT: Format = Format { kind: *b"cairn-p\n", version: 1 };

/// Something that [`AddrMan::to_bytes`] never writes, although the checksum is right.
fn impossible(what: &str) -> Damage {
    Damage::Content(what.to_owned())
}

impl AddrMan {
    /// Reads `peers.dat` of the network with this magic. A damaged file is set aside, with a warning, and the manager
    /// begins empty.
    pub fn load(path: &Path, magic: Magic, rng: StdRng) -> Result<Loaded<Self>, PersistError> {
        let loaded = persist::load(path, MAX_PEERS_FILE_SIZE, |bytes| decode(bytes, magic).map(Some), || None)?;
        let value = match loaded.value {
            Some((key, tables)) => Self { tables, ..Self::with_key(key, rng) },
            None => Self::new(rng),
        };
        Ok(Loaded { value, set_aside: loaded.set_aside })
    }

    /// Writes `peers.dat`, whole or not at all.
    pub fn save(&self, path: &Path, magic: Magic) -> Result<(), PersistError> {
        persist::write(path, &self.to_bytes(magic))
    }

    /// Reads what [`Self::to_bytes`] writes.
    pub fn from_bytes(bytes: &[u8], magic: Magic, rng: StdRng) -> Result<Self, Damage> {
        let (key, tables) = decode(bytes, magic)?;
        Ok(Self { tables, ..Self::with_key(key, rng) })
    }

    /// What is written to `peers.dat`: the key, all entries in the order that is drawn from, and by their numbers who
    /// has which place among the new. Places among the tried follow from the key.
    pub fn to_bytes(&self, magic: Magic) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.key);
        bytes.extend((self.tables.len() as u32).to_le_bytes());
        for position in 0..self.tables.len() {
            let info = self.tables.get(self.tables.at(position));
            write_host(&mut bytes, &info.address.host);
            bytes.extend(info.address.port.to_le_bytes());
            write_host(&mut bytes, &info.source);
            bytes.extend(info.services.to_u64().to_le_bytes());
            for seconds in [info.time, info.last_try, info.last_count_attempt, info.last_success] {
                bytes.extend(time(seconds).as_secs().to_le_bytes());
            }
            bytes.extend(info.attempts.to_le_bytes());
            bytes.push(u8::from(info.in_tried));
        }
        bytes.extend((self.tables.new.iter().count() as u32).to_le_bytes());
        for (place, id) in self.tables.new.iter() {
            bytes.extend(place.0.to_le_bytes());
            bytes.extend(self.tables.get(id).random_position.to_le_bytes());
        }
        FORMAT.seal(magic, &bytes)
    }
}

fn decode(bytes: &[u8], magic: Magic) -> Result<([u8; 32], Tables), Damage> {
    let mut reader = Reader(FORMAT.open(magic, bytes)?);
    let key = reader.take()?;
    let mut tables = Tables::default();
    for _ in 0..reader.u32()? {
        let info = decode_entry(&mut reader)?;
        let address = info.address;
        if !address.host.is_routable() {
            return Err(impossible("an address is not routable"));
        }
        if tables.find(&address).is_some() {
            return Err(impossible("an address is there twice"));
        }
        let tried = info.in_tried;
        let id = tables.create(info);
        if tried {
            let place = slot(&key, &address, true, tried_bucket(&key, &address));
            if tables.tried.get(place).is_some() {
                return Err(impossible("two addresses have one place"));
            }
            tables.tried.set(place, id);
        }
    }
    let mut last = None;
    for _ in 0..reader.u32()? {
        let place = Slot(reader.u16()?);
        let position = reader.u32()? as usize;
        if last.replace(place).is_some_and(|last| last >= place) {
            return Err(impossible("places are not in order"));
        }
        if position >= tables.len() {
            return Err(impossible("a place is nobody's"));
        }
        let id = tables.at(position);
        let info = tables.get_mut(id);
        if info.in_tried || slot(&key, &info.address, false, place.bucket()) != place {
            return Err(impossible("an address has a place that is not its own"));
        }
        if info.ref_count == ADDRMAN_NEW_BUCKETS_PER_ADDRESS {
            return Err(impossible("an address has too many places"));
        }
        info.ref_count += 1;
        tables.new.set(place, id);
    }
    if (0..tables.len())
        .map(|position| tables.get(tables.at(position)))
        .any(|info| !info.in_tried && info.ref_count == 0)
    {
        return Err(impossible("an address has no place"));
    }
    reader.finish()?;
    Ok((key, tables))
}

fn decode_entry(reader: &mut Reader<'_>) -> Result<AddrInfo, Damage> {
    let address = NetAddress::new(reader.host()?, reader.u16()?);
    let source = reader.host()?;
    let services = ServiceFlags::from(reader.u64()?);
    let mut times = [0; 4];
    for time in &mut times {
        *time = i64::try_from(reader.u64()?).map_err(|_| impossible("a time is beyond all times"))?;
    }
    let [time, last_try, last_count_attempt, last_success] = times;
    let attempts = reader.u32()?;
    let in_tried = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(impossible("an address is neither new nor tried")),
    };
    Ok(AddrInfo {
        address,
        source,
        services,
        time,
        last_try,
        last_count_attempt,
        last_success,
        attempts,
        random_position: 0,
        ref_count: 0,
        in_tried,
    })
}

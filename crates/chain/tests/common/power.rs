//! A disk whose power fails: what was synced is there, of the rest anything.

use cairn_chain::testing::faults::Made;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What a disk writes at once.
const SECTOR: usize = 512;

/// Which of the changes that were not synced reach the disk.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Survives {
    /// None.
    Nothing,
    /// All of them.
    All,
    /// Those before some moment, the last of them torn.
    Earlier,
    /// Any, in any order, each write sector by sector.
    Any,
}

/// A generator of numbers that only need to differ.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

#[derive(Debug, Clone)]
enum Data {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Debug, Clone, Default)]
struct Contents {
    durable: Vec<u8>,
    pending: Vec<Data>,
}

#[derive(Debug, Clone)]
enum Name {
    Dir(PathBuf),
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

/// Names of files and directories.
#[derive(Debug, Clone, Default)]
struct Names {
    dirs: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, usize>,
}

impl Names {
    fn apply(&mut self, change: &Name) {
        match change {
            Name::Dir(path) => drop(self.dirs.insert(path.clone())),
            Name::Link(path, file) => drop(self.files.insert(path.clone(), *file)),
            Name::Unlink(path) => drop(self.files.remove(path)),
            Name::Rename(from, to) => {
                let file = self.files.remove(from).expect("what is renamed is there");
                self.files.insert(to.clone(), file);
            }
        }
    }
}

/// The disk below one directory, which is durable itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    contents: Vec<Contents>,
    /// As programs see them.
    seen: Names,
    durable: Names,
    /// Not synced yet, by directory.
    pending: BTreeMap<PathBuf, Vec<Name>>,
}

impl Disk {
    fn name(&mut self, path: &Path, change: Name) {
        self.seen.apply(&change);
        self.pending.entry(path.parent().expect("nobody changes the root").to_owned()).or_default().push(change);
    }

    fn file(&mut self, path: &Path) -> &mut Contents {
        &mut self.contents[self.seen.files[path]]
    }

    /// A change is made.
    pub(crate) fn make(&mut self, made: &Made) {
        match made {
            Made::CreateDir(path) => self.name(path, Name::Dir(path.clone())),
            Made::Create(path) => {
                self.contents.push(Contents::default());
                self.name(path, Name::Link(path.clone(), self.contents.len() - 1));
            }
            Made::Write { path, at, bytes } => self.file(path).pending.push(Data::Write(*at, bytes.clone())),
            Made::SetLen { path, length } => self.file(path).pending.push(Data::SetLen(*length)),
            Made::Sync(path) => {
                let file = self.file(path);
                for change in std::mem::take(&mut file.pending) {
                    apply(&mut file.durable, &change);
                }
            }
            Made::SyncDir(dir) => {
                for change in self.pending.remove(dir).unwrap_or_default() {
                    self.durable.apply(&change);
                }
            }
            Made::Rename { from, to } => self.name(to, Name::Rename(from.clone(), to.clone())),
            Made::Remove(path) => self.name(path, Name::Unlink(path.clone())),
        }
    }

    /// Writes what is left after the power failed: `root` becomes `target`.
    pub(crate) fn fail(&self, survives: Survives, random: &mut Random, root: &Path, target: &Path) {
        let mut names = self.durable.clone();
        for changes in self.pending.values() {
            // Directories are journalled by every file system of note: their changes keep their order.
            let count = match survives {
                Survives::Nothing => 0,
                Survives::All => changes.len(),
                Survives::Earlier | Survives::Any => random.below(changes.len() + 1),
            };
            changes[..count].iter().for_each(|change| names.apply(change));
        }
        let moved = |path: &Path| target.join(path.strip_prefix(root).expect("all lies below the root"));
        for dir in &names.dirs {
            fs::create_dir_all(moved(dir)).expect("created");
        }
        for (path, &file) in &names.files {
            let path = moved(path);
            // A file in a directory whose name was lost is lost with it.
            if path.parent().is_some_and(Path::is_dir) {
                fs::write(path, self.contents[file].left(survives, random)).expect("written");
            }
        }
    }
}

impl Contents {
    fn left(&self, survives: Survives, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        match survives {
            Survives::Nothing => {}
            Survives::All => self.pending.iter().for_each(|change| apply(&mut bytes, change)),
            Survives::Earlier => {
                let count = random.below(self.pending.len() + 1);
                self.pending[..count].iter().for_each(|change| apply(&mut bytes, change));
                if let Some(Data::Write(at, torn)) = self.pending.get(count) {
                    let length = random.below(torn.len() + 1);
                    apply(&mut bytes, &Data::Write(*at, torn[..length].to_vec()));
                }
            }
            Survives::Any => {
                for change in &self.pending {
                    match change {
                        Data::Write(at, written) => {
                            for (n, sector) in written.chunks(SECTOR).enumerate() {
                                if random.below(2) == 0 {
                                    let at = at + (n * SECTOR) as u64;
                                    apply(&mut bytes, &Data::Write(at, sector.to_vec()));
                                }
                            }
                        }
                        Data::SetLen(_) if random.below(2) == 0 => apply(&mut bytes, change),
                        Data::SetLen(_) => {}
                    }
                }
            }
        }
        bytes
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Data) {
    match change {
        Data::Write(at, written) => {
            let at = *at as usize;
            bytes.resize(bytes.len().max(at + written.len()), 0);
            bytes[at..at + written.len()].copy_from_slice(written);
        }
        Data::SetLen(length) => bytes.resize(*length as usize, 0),
    }
}

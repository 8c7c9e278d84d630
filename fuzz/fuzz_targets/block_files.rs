//! Block files of any bytes, among them blocks: whole, damaged, in any order, on branches. The index and the coins are made
//! from them, with the best chain of those blocks that are whole; opened again, nothing has changed.
#![no_main]

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::{Amount, Block};
use cairn_chain::testing::{block_after, coins, mine, regtest, reward, seal, spend};
use cairn_chain::{Chain, ChainConfig};
use cairn_consensus::params::Params;
use cairn_fuzz::{Input, chain_dir, pick, record};
use libfuzzer_sys::fuzz_target;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

static PARAMS: LazyLock<Params> = LazyLock::new(regtest);
/// Most blocks in the files: each costs time.
const MOST_BLOCKS: usize = 24;

/// What is written, and what is known of it.
struct Pieces {
    /// Blocks that are valid where their ancestors are there, each with its height; the genesis block first.
    blocks: Vec<(Block, u32)>,
    /// What the files hold, one after the other.
    files: Vec<Vec<u8>>,
    /// Which of the blocks the files hold whole.
    whole: Vec<bool>,
    /// There are blocks of which nothing is known.
    foreign: bool,
}

impl Pieces {
    fn put(&mut self, bytes: &[u8]) {
        self.files.last_mut().expect("there is a first file").extend(bytes);
    }

    /// A valid block after one of those before.
    fn child(&mut self, input: &mut Input<'_>) -> Block {
        let (parent, height) = &self.blocks[pick(input.u8(), self.blocks.len())];
        let (kind, salt) = (input.u8(), self.blocks.len() as u32);
        let mut block = block_after(&parent.header, height + 1, salt, Vec::new());
        if kind % 4 == 1 {
            // Another time, and so another chain of medians.
            block.header.time = parent.header.time.saturating_add(u32::from(kind));
            mine(&mut block.header);
        }
        self.blocks.push((block.clone(), height + 1));
        self.whole.push(false);
        block
    }

    /// A block that some rule refuses, or not: with what the fuzzer says, its roots and work right.
    fn foreign(&mut self, input: &mut Input<'_>) -> Option<Block> {
        let (parent, height) = &self.blocks[pick(input.u8(), self.blocks.len())];
        let mut block = match input.u8() % 3 {
            0 => {
                deserialize::<Block>(input.chunk()).ok().filter(|b| b.txdata.iter().any(|tx| !tx.output.is_empty()))?
            }
            1 => {
                let spending = spend(&[reward(parent)], &[Amount::from_sat(input.u64())]);
                block_after(&parent.header, height + 1, 0, vec![spending])
            }
            _ => {
                let mut block = block_after(&parent.header, height + 1 + u32::from(input.u8() % 2), 0, Vec::new());
                block.header.time = input.u32();
                block.txdata[0].output[0].value = Amount::from_sat(input.u64());
                block
            }
        };
        if block.txdata[0].output.is_empty() {
            return None;
        }
        block.header.prev_blockhash = parent.block_hash();
        block.header.bits = parent.header.bits;
        seal(&mut block);
        self.foreign = true;
        Some(block)
    }

    fn read(bytes: &[u8]) -> (Self, u8, [u8; 8]) {
        let mut input = Input::new(bytes);
        let (shape, key) = (input.u8(), input.array());
        let genesis = PARAMS.genesis.clone();
        let mut this =
            Pieces { blocks: vec![(genesis, 0)], files: vec![Vec::new()], whole: vec![true], foreign: false };
        if shape & 1 == 0 {
            this.put(&record(PARAMS.magic, &PARAMS.genesis));
        }
        let mut held = Vec::new();
        while !input.is_empty() && this.blocks.len() < MOST_BLOCKS {
            match input.u8() % 10 {
                0 | 1 => {
                    let block = this.child(&mut input);
                    this.put(&record(PARAMS.magic, &block));
                    *this.whole.last_mut().expect("there is the genesis block") = true;
                }
                // For later: blocks may lie before their parents.
                2 => held.push({
                    this.child(&mut input);
                    this.blocks.len() - 1
                }),
                3 => {
                    if let Some(n) = held.pop() {
                        let held = record(PARAMS.magic, &this.blocks[n].0);
                        this.put(&held);
                        this.whole[n] = true;
                    }
                }
                4 => {
                    let mut damaged = serialize(&this.blocks[pick(input.u8(), this.blocks.len())].0);
                    let at = pick(input.u16(), damaged.len());
                    damaged[at] ^= input.u8();
                    this.foreign = true;
                    this.put(&[&PARAMS.magic[..], &(damaged.len() as u32).to_le_bytes(), &damaged].concat());
                }
                5 => {
                    if let Some(block) = this.foreign(&mut input) {
                        this.put(&record(PARAMS.magic, &block));
                    }
                }
                6 => {
                    let content = input.chunk();
                    this.put(&[&PARAMS.magic[..], &(content.len() as u32).to_le_bytes(), content].concat());
                }
                7 => this.put(&[&PARAMS.magic[..], &input.array::<4>()].concat()),
                8 => this.put(input.chunk()),
                _ if this.files.len() < 4 => this.files.push(Vec::new()),
                _ => this.put(&vec![0; input.u16().into()]),
            }
        }
        (this, shape, key)
    }

    /// Height of the best chain of blocks that are known to be valid.
    fn best(&self) -> u32 {
        let mut connected = vec![false; self.blocks.len()];
        let mut best = 0;
        for (n, (block, height)) in self.blocks.iter().enumerate() {
            let parent = self.blocks.iter().position(|(parent, _)| parent.block_hash() == block.header.prev_blockhash);
            connected[n] = n == 0 || (self.whole[n] && parent.is_some_and(|parent| connected[parent]));
            if connected[n] {
                best = best.max(*height);
            }
        }
        best
    }
}

fn open(dir: &Path, reindex: bool) -> Option<Chain> {
    let config = ChainConfig { reindex, ..ChainConfig::new(dir.to_owned(), PARAMS.clone()) };
    Chain::open(config, Box::new(|_| {})).ok()
}

fuzz_target!(|bytes: &[u8]| {
    let (pieces, shape, key) = Pieces::read(bytes);
    let dir = chain_dir();
    let blocks = dir.join("blocks");
    fs::create_dir_all(&blocks).expect("the directory is ours");
    let key = if shape & 2 == 0 { [0; 8] } else { key };
    for (number, file) in pieces.files.iter().enumerate() {
        let bytes: Vec<u8> = file.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        fs::write(blocks.join(format!("blk{number:05}.dat")), bytes).expect("written");
    }
    // Where it is missing or short the genesis block tells the key.
    let has_key = matches!(shape & 12, 0 | 12);
    match shape & 12 {
        4 => {}
        8 => fs::write(blocks.join("xor.dat"), &key[..usize::from(shape >> 4 & 7)]).expect("written"),
        _ => fs::write(blocks.join("xor.dat"), key).expect("written"),
    }

    let Some(chain) = open(&dir, shape & 128 != 0) else {
        let begins_with_genesis = shape & 1 == 0;
        assert!(!begins_with_genesis && !has_key, "files whose key is there or can be found were refused");
        return;
    };
    let (tip, best) = (chain.tip(), pieces.best());
    assert!(tip.height >= best, "the best chain has {} blocks, {best} were there", tip.height);
    assert!(tip.height == best || pieces.foreign, "a block came out of nowhere");
    assert!(chain.verify(4, 0).expect("what was made is sound"));
    for height in 1..=tip.height {
        let entry = chain.entry_at(height).expect("it is below the tip");
        assert_eq!(entry.header.block_hash(), entry.hash);
        assert_eq!(entry.header.prev_blockhash, chain.entry_at(height - 1).expect("it is below the tip").hash);
        assert!(chain.block(&entry.hash).expect("it was read before").is_some());
    }
    let before = coins(&chain).expect("written");
    drop(chain);
    let again = open(&dir, false).expect("what was made can be opened");
    assert_eq!(again.tip().hash, tip.hash);
    assert_eq!(coins(&again).expect("read"), before);
});

//! Importing the same blocks into Cairn and into Bitcoin Core's own engine, both on disk, every script checked.
//!
//! Each measurement is a process of its own that reads blocks from a file, gives them to the engine one by one and stops
//! it cleanly; the clock runs from opening the engine to its end. Engines take turns; medians of `ROUNDS`.
//!
//! `cargo bench -p cairn --features oracle --bench import [-- signatures|coins|empty|growth|memory]`; `BITCOIND` names the
//! bitcoind that `empty` is compared with. `-- write signatures|coins|empty FILE` only makes a chain, for `network.py`.

use bitcoin::absolute::LockTime;
use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::key::{Keypair, TapTweak};
use bitcoin::secp256k1::{Message, PublicKey, Secp256k1, SecretKey, XOnlyPublicKey, ecdsa, schnorr};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{Amount, Block, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use cairn_chain::testing::{MATURITY, NOW, anyone_can_spend, block_after, regtest, reward, spend};
use cairn_chain::{Chain, ChainConfig};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

/// As the program has it; the kernel's C++ keeps the system's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Anything<T> = Result<T, Box<dyn std::error::Error>>;

const ROUNDS: usize = 5;
/// Core's fixed caches in `libbitcoinkernel`, bytes; ours may have no more.
const CACHE: usize = 450 << 20;
/// Weight that a generated block fills.
const BLOCK_WEIGHT: u64 = 3_900_000;

fn main() -> Anything<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [run, engine, file, cache] = args.as_slice()
        && run == "run"
    {
        return measure(engine, Path::new(file), cache.parse()?);
    }
    if let [write, chain, file] = args.as_slice()
        && write == "write"
    {
        let file = Path::new(file);
        return match chain.as_str() {
            "signatures" => signatures(file, 100_000),
            "coins" => coins(file, 500_000),
            "empty" => empty(file, 100_000),
            other => Err(format!("no chain is called {other}").into()),
        };
    }
    let asked = |name: &str| args.is_empty() || args.iter().any(|arg| arg == name);
    let dir = tempfile::tempdir()?;
    if asked("signatures") {
        let file = dir.path().join("signatures");
        signatures(&file, 100_000)?;
        compare("(a) 100,000 inputs, P2WPKH and P2TR", &file, &["cairn", "kernel", "libsecp256k1"])?;
    }
    if asked("coins") {
        let file = dir.path().join("coins");
        coins(&file, 500_000)?;
        compare("(b) 1,000,000 coins created, 500,000 spent", &file, &["cairn", "kernel"])?;
    }
    if asked("empty") {
        let file = dir.path().join("empty");
        empty(&file, 100_000)?;
        // On regtest the engine in the library checks its whole index after each block; bitcoind can be told not to.
        let engines: &[&str] = match std::env::var_os("BITCOIND") {
            Some(_) => &["cairn", "bitcoind"],
            None => {
                eprintln!("without BITCOIND, which names a bitcoind, (c) has no peer");
                &["cairn"]
            }
        };
        compare("(c) 100,000 nearly empty blocks", &file, engines)?;
    }
    if asked("growth") {
        for spends in [5_000, 50_000, 150_000, 500_000] {
            let file = dir.path().join(format!("growth-{spends}"));
            coins(&file, spends)?;
            compare(&format!("{} coins created, half spent", 2 * spends), &file, &["cairn", "kernel"])?;
        }
    }
    if asked("memory") {
        let file = dir.path().join("memory");
        coins(&file, 500_000)?;
        let (seconds, peak) = child("cairn", &file, 64 << 20)?;
        println!("(b) with 64 MiB of coins cached: {seconds:.2} s, peak {peak} MiB resident");
    }
    Ok(())
}

/// Runs the engines in turn and prints medians.
fn compare(name: &str, file: &Path, engines: &[&str]) -> Anything<()> {
    println!("{name}, {:.0} MB of blocks", fs::metadata(file)?.len() as f64 / 1e6);
    let mut times = vec![Vec::new(); engines.len()];
    let mut peaks = vec![0; engines.len()];
    for _ in 0..ROUNDS {
        for (n, engine) in engines.iter().enumerate() {
            let (seconds, peak) = child(engine, file, CACHE)?;
            times[n].push(seconds);
            peaks[n] = peak.max(peaks[n]);
        }
    }
    for times in &mut times {
        times.sort_by(f64::total_cmp);
    }
    let median = |n: usize| times[n][ROUNDS / 2];
    for (n, engine) in engines.iter().enumerate() {
        println!(
            "  {engine:12} {:8.2} s ({:.2} to {:.2}), {:5.2} of cairn's, peak {} MiB",
            median(n),
            times[n][0],
            times[n][ROUNDS - 1],
            median(n) / median(0),
            peaks[n]
        );
    }
    Ok(())
}

fn child(engine: &str, file: &Path, cache: usize) -> Anything<(f64, u64)> {
    let output =
        Command::new(std::env::current_exe()?).args(["run", engine]).arg(file).arg(cache.to_string()).output()?;
    let text = String::from_utf8(output.stdout)?;
    let numbers: Vec<&str> = text.split_whitespace().collect();
    match numbers.as_slice() {
        [seconds, peak] => Ok((seconds.parse()?, peak.parse()?)),
        _ => Err(format!("{engine} failed: {text}{}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// One measurement, in a process of its own: prints seconds, and MiB resident at the peak.
fn measure(engine: &str, file: &Path, cache: usize) -> Anything<()> {
    let dir = tempfile::tempdir()?;
    let since = match engine {
        "cairn" => run_cairn(dir.path(), file, cache)?,
        "kernel" => run_kernel(dir.path(), file)?,
        "bitcoind" => run_bitcoind(dir.path(), file)?,
        _ => run_libsecp256k1(file)?,
    };
    let seconds = since.elapsed().as_secs_f64();
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse()?;
    println!("{seconds} {}", peak / 1024);
    Ok(())
}

/// Blocks of a file, one after the other. As in a node, where each peer has a thread, another thread reads and decodes them.
fn read_blocks<B: Send>(
    file: &Path,
    decode: fn(&[u8]) -> Result<B, String>,
    mut each: impl FnMut(B) -> Anything<()>,
) -> Anything<()> {
    let mut input = BufReader::with_capacity(1 << 20, File::open(file)?);
    let (sender, blocks) = std::sync::mpsc::sync_channel(4);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut length = [0; 4];
            while input.read_exact(&mut length).is_ok() {
                let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
                let read = input.read_exact(&mut bytes).map_err(|error| error.to_string());
                if sender.send(read.and_then(|()| decode(&bytes))).is_err() {
                    return;
                }
            }
        });
        blocks.into_iter().try_for_each(|block| each(block?))
    })
}

fn run_cairn(dir: &Path, file: &Path, cache: usize) -> Anything<Instant> {
    let since = Instant::now();
    // Core's engine has no transaction index either.
    let config = ChainConfig { coin_cache_bytes: cache, txindex: false, ..ChainConfig::new(dir.to_owned(), regtest()) };
    let chain = Chain::open(config, Box::new(|_| {}))?;
    let mut last = None;
    let decode = |bytes: &[u8]| deserialize::<Block>(bytes).map_err(|error| error.to_string());
    read_blocks(file, decode, |block| {
        last = Some(block.block_hash());
        chain.process_block(Arc::new(block), NOW, false)?;
        Ok(())
    })?;
    if Some(chain.tip().hash) != last {
        return Err("the last block is not the tip".into());
    }
    chain.flush()?;
    drop(chain);
    Ok(since)
}

fn run_kernel(dir: &Path, file: &Path) -> Anything<Instant> {
    let since = Instant::now();
    let context = bitcoinkernel::ContextBuilder::new().chain_type(bitcoinkernel::ChainType::Regtest).build()?;
    let (data, blocks) = (dir.join("data"), dir.join("blocks"));
    let text = |path: &Path| path.to_str().map(str::to_owned).ok_or("not UTF-8");
    // The thread that gives the blocks checks scripts too.
    let others = std::thread::available_parallelism()?.get() - 1;
    let chainman = bitcoinkernel::ChainstateManager::builder(&context, &text(&data)?, &text(&blocks)?)?
        .worker_threads(i32::try_from(others)?)
        .build()?;
    let mut count = 0;
    let decode = |bytes: &[u8]| bitcoinkernel::Block::new(bytes).map_err(|error| error.to_string());
    read_blocks(file, decode, |block| {
        count += 1;
        if chainman.process_block(&block).is_rejected() {
            return Err("the kernel refused a block".into());
        }
        Ok(())
    })?;
    if chainman.active_chain().height() != count {
        return Err("the kernel's tip is not the last block".into());
    }
    drop(chainman);
    drop(context);
    Ok(since)
}

/// A whole `bitcoind`, its start and end included, that reads the blocks from one file. Its memory is not this process's.
fn run_bitcoind(dir: &Path, file: &Path) -> Anything<Instant> {
    let blocks = dir.join("blocks.dat");
    let mut out = BufWriter::new(File::create(&blocks)?);
    let mut last = None;
    let decode = |bytes: &[u8]| Ok(bytes.to_vec());
    read_blocks(file, decode, |block| {
        last = Some(deserialize::<Block>(&block)?.block_hash());
        out.write_all(&regtest().magic)?;
        out.write_all(&u32::try_from(block.len())?.to_le_bytes())?;
        Ok(out.write_all(&block)?)
    })?;
    out.into_inner()?.sync_all()?;
    let program = std::env::var_os("BITCOIND").ok_or("BITCOIND names no bitcoind")?;
    let since = Instant::now();
    let status = Command::new(program)
        .args(["-regtest", "-checkblockindex=0", "-stopafterblockimport", "-connect=0", "-listen=0", "-server=0"])
        .args(["-printtoconsole=0", &format!("-dbcache={}", CACHE >> 20)])
        .arg(format!("-par={}", std::thread::available_parallelism()?))
        .arg(format!("-datadir={}", dir.display()))
        .arg(format!("-loadblock={}", blocks.display()))
        .status()?;
    let log = fs::read_to_string(dir.join("regtest/debug.log"))?;
    let tip = format!("new best={}", last.ok_or("no blocks")?);
    if status.success() && log.contains(&tip) { Ok(since) } else { Err("bitcoind did not reach the last block".into()) }
}

/// Nothing but the signatures of the blocks, on all cores.
fn run_libsecp256k1(file: &Path) -> Anything<Instant> {
    let bytes = fs::read(file.with_extension("sigs"))?;
    let since = Instant::now();
    let secp = Secp256k1::verification_only();
    let records: Vec<&[u8]> = bytes.chunks_exact(SIGNATURE_RECORD).collect();
    let threads = std::thread::available_parallelism()?.get();
    let valid = std::thread::scope(|scope| {
        let parts: Vec<_> = records.chunks(records.len().div_ceil(threads)).collect();
        let threads: Vec<_> =
            parts.into_iter().map(|part| scope.spawn(|| part.iter().all(|r| verify(&secp, r)))).collect();
        threads.into_iter().all(|thread| thread.join().unwrap_or(false))
    });
    if valid { Ok(since) } else { Err("a signature is not valid".into()) }
}

/// Kind (0 ECDSA, 1 Schnorr), message, signature, key.
const SIGNATURE_RECORD: usize = 1 + 32 + 64 + 33;

fn verify(secp: &Secp256k1<bitcoin::secp256k1::VerifyOnly>, record: &[u8]) -> bool {
    let (kind, rest) = (record[0], &record[1..]);
    let (message, rest) = rest.split_at(32);
    let (signature, key) = rest.split_at(64);
    let Ok(message) = Message::from_digest_slice(message) else { return false };
    if kind == 0 {
        let (Ok(signature), Ok(key)) = (ecdsa::Signature::from_compact(signature), PublicKey::from_slice(key)) else {
            return false;
        };
        return secp.verify_ecdsa(&message, &signature, &key).is_ok();
    }
    let (Ok(signature), Ok(key)) = (schnorr::Signature::from_slice(signature), XOnlyPublicKey::from_slice(&key[1..]))
    else {
        return false;
    };
    secp.verify_schnorr(&signature, &message, &key).is_ok()
}

/// Writes blocks one after the other, each with its length before it.
struct Writer {
    out: BufWriter<File>,
    tip: Header,
    height: u32,
    waiting: Vec<Transaction>,
    weight: u64,
}

impl Writer {
    fn new(file: &Path) -> Anything<Self> {
        let out = BufWriter::with_capacity(1 << 20, File::create(file)?);
        Ok(Self { out, tip: regtest().genesis.header, height: 0, waiting: Vec::new(), weight: 0 })
    }

    /// Writes a block of all that waits.
    fn block(&mut self) -> Anything<Block> {
        self.height += 1;
        let block = block_after(&self.tip, self.height, 0, std::mem::take(&mut self.waiting));
        self.weight = 0;
        let bytes = serialize(&block);
        self.out.write_all(&u32::try_from(bytes.len())?.to_le_bytes())?;
        self.out.write_all(&bytes)?;
        self.tip = block.header;
        Ok(block)
    }

    fn add(&mut self, tx: Transaction) -> Anything<()> {
        let weight = tx.weight().to_wu();
        if self.weight + weight > BLOCK_WEIGHT {
            self.block()?;
        }
        self.weight += weight;
        self.waiting.push(tx);
        Ok(())
    }

    /// Mines a coinbase that can be spent; returns it.
    fn mature(&mut self) -> Anything<OutPoint> {
        let first = self.block()?;
        for _ in 0..MATURITY {
            self.block()?;
        }
        Ok(reward(&first))
    }

    fn finish(mut self) -> Anything<()> {
        if !self.waiting.is_empty() {
            self.block()?;
        }
        Ok(self.out.flush()?)
    }
}

/// Pseudo-random numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// Transactions with one input and two outputs each, that spend coins of any age: twice as many coins made as spent.
fn coins(file: &Path, spends: usize) -> Anything<()> {
    let mut out = Writer::new(file)?;
    let first = out.mature()?;
    let value = Amount::from_sat(4_000);
    let fan: Vec<Amount> = vec![value; 1_000];
    let tx = spend(&[first], &fan);
    let txid = tx.compute_txid();
    out.add(tx)?;
    out.block()?;
    let mut coins: Vec<(OutPoint, Amount)> = (0..1_000).map(|vout| (OutPoint { txid, vout }, value)).collect();
    let mut dice = Dice(0x1234_5678_9abc_def1);
    for _ in 0..spends {
        let (coin, _) = coins.swap_remove(dice.below(coins.len()));
        let tx = spend(&[coin], &[Amount::ZERO; 2]);
        let txid = tx.compute_txid();
        coins.extend((0..2).map(|vout| (OutPoint { txid, vout }, Amount::ZERO)));
        out.add(tx)?;
    }
    out.finish()
}

fn empty(file: &Path, blocks: u32) -> Anything<()> {
    let mut out = Writer::new(file)?;
    for _ in 0..blocks {
        out.block()?;
    }
    out.finish()
}

/// Transactions with two inputs, one of each kind of output, signed.
fn signatures(file: &Path, inputs: u32) -> Anything<()> {
    let secp = Secp256k1::new();
    let keys: Vec<Keypair> = (1..=100u8)
        .map(|n| Ok(Keypair::from_secret_key(&secp, &SecretKey::from_slice(&[n; 32])?)))
        .collect::<Anything<_>>()?;
    let wpkh = |key: &Keypair| ScriptBuf::new_p2wpkh(&bitcoin::CompressedPublicKey(key.public_key()).wpubkey_hash());
    let tr = |key: &Keypair| ScriptBuf::new_p2tr(&secp, key.x_only_public_key().0, None);
    let value = Amount::from_sat(10_000);
    let mut out = Writer::new(file)?;
    let mut sigs = BufWriter::new(File::create(file.with_extension("sigs"))?);
    let pairs = inputs / 2;
    let per_transaction = 1_000;
    let rewards =
        (0..pairs.div_ceil(per_transaction)).map(|_| Ok(reward(&out.block()?))).collect::<Anything<Vec<_>>>()?;
    out.mature()?;
    let mut coins = Vec::new();
    for from in rewards {
        let count = per_transaction.min(pairs - coins.len() as u32);
        let output = (0..count).flat_map(|n| {
            let key = &keys[(coins.len() + n as usize) % keys.len()];
            [wpkh(key), tr(key)].map(|script_pubkey| TxOut { value, script_pubkey })
        });
        let mut tx = spend(&[from], &[]);
        tx.output = output.collect();
        let txid = tx.compute_txid();
        coins.extend((0..count).map(|n| OutPoint { txid, vout: 2 * n }));
        out.add(tx)?;
    }
    out.block()?;
    for (n, coin) in coins.into_iter().enumerate() {
        let key = &keys[n % keys.len()];
        let input = |previous_output| TxIn {
            previous_output,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        };
        let mut tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![input(coin), input(OutPoint { vout: coin.vout + 1, ..coin })],
            output: vec![TxOut { value: Amount::from_sat(19_000), script_pubkey: anyone_can_spend() }],
        };
        let spent = [wpkh(key), tr(key)].map(|script_pubkey| TxOut { value, script_pubkey });
        let mut cache = SighashCache::new(&tx);
        let hash = cache.p2wpkh_signature_hash(0, &spent[0].script_pubkey, value, EcdsaSighashType::All)?;
        let message = Message::from_digest(hash.to_byte_array());
        let ecdsa = secp.sign_ecdsa_low_r(&message, &key.secret_key());
        let mut record =
            [&[0][..], message.as_ref(), &ecdsa.serialize_compact(), &key.public_key().serialize()].concat();
        let hash = cache.taproot_key_spend_signature_hash(1, &Prevouts::All(&spent), TapSighashType::Default)?;
        let message = Message::from_digest(hash.to_byte_array());
        let tweaked = key.tap_tweak(&secp, None).to_keypair();
        let schnorr = secp.sign_schnorr_no_aux_rand(&message, &tweaked);
        let output_key = tweaked.x_only_public_key().0.serialize();
        record.extend([&[1][..], message.as_ref(), schnorr.as_ref(), &[2], &output_key].concat());
        sigs.write_all(&record)?;
        let signature = [ecdsa.serialize_der().as_ref(), &[1]].concat();
        tx.input[0].witness = Witness::from_slice(&[signature, key.public_key().serialize().to_vec()]);
        tx.input[1].witness = Witness::from_slice(&[schnorr.as_ref()]);
        out.add(tx)?;
    }
    sigs.flush()?;
    out.finish()
}

//! Each rule of a block against its coins has its reason.

use super::*;
use crate::block::txids;
use crate::testing::{Coins, Headers, block, commit, output, regtest, spend};
use bitcoin::{ScriptBuf, Sequence, TxOut, Witness};

const HEIGHT: u32 = 120;
const SUBSIDY: u64 = 50 * 100_000_000;

fn connect_to(
    block: Block,
    coins: &Coins,
    height: u32,
    params: &Params,
    check: impl FnMut(ScriptCheck),
) -> Result<Connected, BlockReject> {
    let (txids, hash) = (txids(&block), block.block_hash());
    let headers = Headers(height - 1);
    let place = Place { height, hash, bip34_ancestor: None, ancestors: &headers };
    connect_block(&Arc::new(block), &txids, &place, params, coins, check).map_err(|error| match error {
        ConnectError::Rejected(rejected) => rejected,
        ConnectError::View(never) => match never {},
    })
}

fn connect_at(block: Block, coins: &Coins, height: u32, params: &Params) -> Result<Connected, BlockReject> {
    connect_to(block, coins, height, params, |_| {})
}

/// What it does, and its scripts.
fn connect_with_checks(block: Block, coins: &Coins) -> (Connected, Vec<ScriptCheck>) {
    let mut checks = Vec::new();
    let connected = connect_to(block, coins, HEIGHT, &regtest(), |check| checks.push(check));
    (connected.expect("valid but for its scripts"), checks)
}

fn connect(block: Block, coins: &Coins) -> Result<Connected, BlockReject> {
    connect_at(block, coins, HEIGHT, &regtest())
}

#[track_caller]
fn refused(result: Result<Connected, BlockReject>, reason: &str) {
    let Err(rejected) = result else { panic!("should be refused: {reason}") };
    assert_eq!((rejected.kind, &*rejected.reason), (BlockRejectKind::Consensus, reason));
}

#[test]
fn coins_are_spent_once_and_what_a_block_creates_it_may_spend() {
    let mut coins = Coins::default();
    let a = coins.add(0, output(100), 1, false);
    let b = coins.add(1, output(50), 119, false);
    let first = spend(&[a], vec![output(60), output(30)]);
    let created = OutPoint::new(first.compute_txid(), 1);
    let second = spend(&[created, b], vec![output(75)]);
    let (connected, checks) =
        connect_with_checks(block(HEIGHT, SUBSIDY + 15, vec![first.clone(), second.clone()]), &coins);
    assert_eq!(connected.fees.to_sat(), 15);
    assert_eq!(connected.undo.0.len(), 2);
    assert_eq!(connected.undo.0[1].0[0], Coin { output: output(30), height: HEIGHT, coinbase: false });
    assert_eq!(connected.undo.0[1].0[1].height, 119);
    assert_eq!(checks.iter().map(ScriptCheck::inputs).collect::<Vec<_>>(), [1, 2]);
    for check in &checks {
        for input in 0..check.inputs() {
            check.run(input).expect("anyone can spend");
        }
    }
    let missing = "bad-txns-inputs-missingorspent";
    refused(connect(block(HEIGHT, 0, vec![second.clone(), first.clone()]), &coins), missing);
    refused(connect(block(HEIGHT, 0, vec![first.clone(), spend(&[a], vec![])]), &coins), missing);
    let again = spend(&[created], vec![output(1)]);
    refused(connect(block(HEIGHT, 0, vec![first, second, again]), &coins), missing);
    refused(connect(block(HEIGHT, 0, vec![spend(&[crate::testing::outpoint(7)], vec![])]), &coins), missing);
    // What can never be spent is no coin.
    let returned = spend(&[a], vec![TxOut { script_pubkey: vec![0x6a].into(), ..output(1) }]);
    let child = spend(&[OutPoint::new(returned.compute_txid(), 0)], vec![output(1)]);
    refused(connect(block(HEIGHT, 0, vec![returned, child]), &coins), missing);
}

#[test]
fn the_coinbase_takes_no_more_than_subsidy_and_fees() {
    let mut coins = Coins::default();
    let a = coins.add(0, output(100), 1, false);
    let pays = |reward| block(HEIGHT, reward, vec![spend(&[a], vec![output(90)])]);
    connect(pays(SUBSIDY + 10), &coins).expect("all of it");
    connect(pays(0), &coins).expect("less is allowed");
    refused(connect(pays(SUBSIDY + 11), &coins), "bad-cb-amount");
    let Err(rejected) = connect(pays(SUBSIDY + 11), &coins) else { unreachable!("refused above") };
    assert_eq!(rejected.debug, format!("coinbase pays too much (actual={} vs limit={})", SUBSIDY + 11, SUBSIDY + 10));
}

#[test]
fn inputs_keep_their_own_rules() {
    let mut coins = Coins::default();
    let young = coins.add(0, output(100), HEIGHT - 99, true);
    let poor = coins.add(1, output(1), 1, false);
    let early = block(HEIGHT, 0, vec![spend(&[young], vec![output(1)])]);
    refused(connect(early.clone(), &coins), "bad-txns-premature-spend-of-coinbase");
    coins.add(0, output(100), HEIGHT - 100, true);
    connect(early, &coins).expect("mature");
    refused(connect(block(HEIGHT, 0, vec![spend(&[poor], vec![output(2)])]), &coins), "bad-txns-in-belowout");
    let rich: Vec<OutPoint> = (2..4).map(|n| coins.add(n, output(MAX_MONEY), 1, false)).collect();
    let fees = rich.iter().map(|coin| spend(&[*coin], vec![output(1)])).collect();
    refused(connect(block(HEIGHT, 0, fees), &coins), "bad-txns-accumulated-fee-outofrange");
    let all = connect(block(HEIGHT, 0, vec![spend(&rich[..1], vec![output(0)])]), &coins).expect("as much as there is");
    assert_eq!(all.fees.to_sat(), MAX_MONEY);
    refused(connect(block(HEIGHT, 0, vec![spend(&rich, vec![output(1)])]), &coins), "bad-txns-inputvalues-outofrange");
}

#[test]
fn relative_lock_times_hold_from_bip_68_on() {
    let mut coins = Coins::default();
    let a = coins.add(0, output(100), HEIGHT - 5, false);
    let locked = |blocks: u32| {
        let mut tx = spend(&[a], vec![output(1)]);
        tx.input[0].sequence = Sequence(blocks);
        block(HEIGHT, 0, vec![tx])
    };
    connect(locked(5), &coins).expect("five blocks have passed");
    refused(connect(locked(6), &coins), "bad-txns-nonfinal");
    let before = Params { csv_height: HEIGHT + 1, ..regtest() };
    connect_at(locked(6), &coins, HEIGHT, &before).expect("not yet a rule");
    // Six blocks of ten minutes passed between the median before the coin and the median before this block.
    let (last, next) = (5 * 600 / 512, 5 * 600 / 512 + 1);
    connect(locked(1 << 22 | last), &coins).expect("enough time has passed");
    refused(connect(locked(1 << 22 | next), &coins), "bad-txns-nonfinal");
}

#[test]
fn sigop_cost_counts_what_the_coins_reveal() {
    let mut coins = Coins::default();
    // 201 signature operations in a redeem script, 66 times: 53,064 of cost, within; 100 times: beyond.
    let redeem = vec![0xac; 201];
    let p2sh = ScriptBuf::new_p2sh(&bitcoin::Script::from_bytes(&redeem).script_hash());
    let spender = |coins: &mut Coins, n| {
        let outpoint = coins.add(n, TxOut { script_pubkey: p2sh.clone(), ..output(1) }, 1, false);
        let mut tx = spend(&[outpoint], vec![output(1)]);
        let mut script_sig = vec![0x4c, redeem.len() as u8];
        script_sig.extend_from_slice(&redeem);
        tx.input[0].script_sig = script_sig.into();
        tx
    };
    let within: Vec<_> = (0..99).map(|n| spender(&mut coins, n)).collect();
    connect(block(HEIGHT, 0, within.clone()), &coins).expect("79,596");
    let beyond = (0..100).map(|n| spender(&mut coins, n)).collect();
    refused(connect(block(HEIGHT, 0, beyond), &coins), "bad-blk-sigops");
}

#[test]
fn legacy_sigops_cost_four_in_every_transaction() {
    let mut coins = Coins::default();
    let checks = |count: usize| vec![TxOut { script_pubkey: vec![0xac; count].into(), ..output(0) }];
    let mut pair = |first, second| {
        let (a, b) = (coins.add(0, output(1), 1, false), coins.add(1, output(1), 1, false));
        let mut block = block(HEIGHT, 0, vec![spend(&[a], checks(first)), spend(&[b], checks(second))]);
        block.txdata[0].output.extend(checks(1));
        connect(block, &coins)
    };
    pair(9_999, 10_000).expect("80,000 exactly");
    refused(pair(9_999, 10_001), "bad-blk-sigops");
}

#[test]
fn a_block_cannot_spend_its_own_coinbase() {
    let mut own = block(HEIGHT, 1, vec![]);
    own.txdata.push(spend(&[OutPoint::new(own.txdata[0].compute_txid(), 0)], vec![output(1)]));
    refused(connect(own, &Coins::default()), "bad-txns-premature-spend-of-coinbase");
}

#[test]
fn outputs_that_can_never_be_spent_are_no_coins() {
    for (script, unspendable) in [
        (vec![], false),
        (vec![0x51; 10_000], false),
        (vec![0x51; 10_001], true),
        (vec![0x6a], true),
        (vec![0x51, 0x6a], false),
    ] {
        assert_eq!(is_unspendable(&ScriptBuf::from_bytes(script)), unspendable);
    }
}

#[test]
fn scripts_fail_with_cores_reason() {
    let mut coins = Coins::default();
    let a = coins.add(0, TxOut { script_pubkey: vec![0x00].into(), ..output(1) }, 1, false);
    let p2wpkh = [&[0u8, 20][..], &[1; 20]].concat();
    let b = coins.add(1, TxOut { script_pubkey: p2wpkh.into(), ..output(1) }, 1, false);
    let mut tx = spend(&[a, b], vec![output(1)]);
    tx.input[1].witness = Witness::from_slice(&[[0u8; 1]]);
    let (_, checks) = connect_with_checks(commit(block(HEIGHT, 0, vec![tx])), &coins);
    let reason = |input| checks[0].run(input).expect_err("fails").reason.into_owned();
    assert_eq!(
        reason(0),
        "block-script-verify-flag-failed (Script evaluated without error but finished with a false/empty top stack element)"
    );
    assert_eq!(reason(1), "block-script-verify-flag-failed (Witness program hash mismatch)");
}

#[test]
fn unspent_coins_are_not_overwritten() {
    let mut coins = Coins::default();
    let repeat = block(HEIGHT, 1, vec![]);
    let outpoint = OutPoint::new(repeat.txdata[0].compute_txid(), 0);
    coins.0.insert(outpoint, Coin { output: output(1), height: 1, coinbase: true });
    let late = Params { bip34_height: 10, ..regtest() };
    refused(connect_at(repeat.clone(), &coins, HEIGHT, &late), "bad-txns-BIP30");
    // Where every coinbase commits to its height there are no repeats, and they are not looked for.
    assert!(connect(repeat.clone(), &coins).is_ok());

    // On the chain whose BIP 34 block is known, BIP 34 makes repeats impossible, and they are not looked for.
    let known = repeat.block_hash();
    let params = Params { bip34_hash: Some(known), bip34_height: 10, ..regtest() };
    let headers = Headers(HEIGHT - 1);
    let place = |height, ancestor| Place { height, hash: known, bip34_ancestor: ancestor, ancestors: &headers };
    assert!(!enforces_bip30(&place(HEIGHT, Some(known)), &params));
    assert!(enforces_bip30(&place(HEIGHT, None), &params));
    assert!(enforces_bip30(&place(10, Some(known)), &params));
    assert!(enforces_bip30(&place(BIP34_IMPLIES_BIP30_LIMIT, Some(known)), &params));
    for height in [91_842, 91_880, 91_722, 91_812] {
        assert!(!is_bip30_repeat(height, &known) && !is_bip30_unspendable(height, &known), "only those very blocks");
    }
}

/// Mainnet has two blocks that overwrite the coinbase of another, and neither may be refused.
#[test]
fn the_two_repeats_of_mainnet_are_known_by_height_and_hash() {
    let params = Params::new(bitcoin::Network::Bitcoin).expect("supported");
    let hash = |hex: &str| hex.parse::<BlockHash>().expect("a hash");
    let overwritten = [
        (91_722, hash("00000000000271a2dc26e7667f8419f2e15416dc6955e5a6c6cdf3f2574dd08e")),
        (91_812, hash("00000000000af0aed4792b1acee3d966af36cf5def14935db8de83d6f9306f2f")),
    ];
    let repeats = [
        (91_842, hash("00000000000a4d0a398161ffc163c503763b1f4360639393e0e4c8e300e0caec")),
        (91_880, hash("00000000000743f190a18c5577a3c2d2a1f610ae9601ac046a38084ccb7cd721")),
    ];
    let enforced = |height, hash| {
        let headers = Headers(height - 1);
        enforces_bip30(&Place { height, hash, bip34_ancestor: None, ancestors: &headers }, &params)
    };
    for (height, hash) in repeats {
        assert!(is_bip30_repeat(height, &hash) && !is_bip30_unspendable(height, &hash));
        assert!(!enforced(height, hash) && enforced(height + 1, hash));
    }
    for (height, hash) in overwritten {
        assert!(is_bip30_unspendable(height, &hash) && !is_bip30_repeat(height, &hash));
        assert!(enforced(height, hash));
    }
}

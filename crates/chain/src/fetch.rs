//! Reading the coins that a block spends on all cores, before the rules ask for one after the other.

use bitcoin::{Block, OutPoint, Txid};
use cairn_consensus::coins::{Coin, CoinView};
use rayon::prelude::*;
use std::cell::RefCell;
use std::collections::HashSet;
use std::iter::Peekable;
use std::vec::IntoIter;

/// Coins that one thread reads at a time, at least.
const COINS_A_PIECE: usize = 64;

type Answer<E> = (OutPoint, Result<Option<Coin>, E>);

/// A view whose answers to what a block will ask are at hand. Whatever else is asked goes to the view itself.
pub(crate) struct Fetched<'a, V: CoinView> {
    view: &'a V,
    answers: RefCell<Peekable<IntoIter<Answer<V::Error>>>>,
}

impl<'a, V: CoinView + Sync> Fetched<'a, V>
where
    V::Error: Send,
{
    /// Reads the coins of a block on the threads of `pool`; `txids` are those of its transactions.
    pub(crate) fn new(view: &'a V, block: &Block, txids: &[Txid], pool: &rayon::ThreadPool) -> Self {
        let created: HashSet<&Txid, ahash::RandomState> = txids.iter().collect();
        let inputs = block.txdata.iter().skip(1).flat_map(|tx| &tx.input).map(|input| input.previous_output);
        let asked: Vec<OutPoint> = inputs.filter(|outpoint| !created.contains(&outpoint.txid)).collect();
        let read = |outpoint| (outpoint, view.coin(&outpoint));
        let answers: Vec<_> = pool.install(|| asked.into_par_iter().with_min_len(COINS_A_PIECE).map(read).collect());
        Self { view, answers: RefCell::new(answers.into_iter().peekable()) }
    }
}

impl<V: CoinView> CoinView for Fetched<'_, V> {
    type Error = V::Error;
    fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, V::Error> {
        // The rules ask in the order of the block's inputs.
        let at_hand = self.answers.borrow_mut().next_if(|(asked, _)| asked == outpoint);
        at_hand.map_or_else(|| self.view.coin(outpoint), |(_, answer)| answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{block_after, regtest, spend};
    use bitcoin::hashes::Hash;
    use bitcoin::{Amount, ScriptBuf, TxOut};
    use cairn_consensus::block::txids;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Has a coin at every other output, and counts how often it is asked.
    #[derive(Default)]
    struct Odd(AtomicU32);

    impl CoinView for Odd {
        type Error = OutPoint;
        fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, OutPoint> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let output = TxOut { value: Amount::from_sat(u64::from(outpoint.vout)), script_pubkey: ScriptBuf::new() };
            match outpoint.vout {
                99 => Err(*outpoint),
                vout => Ok((vout % 2 == 1).then_some(Coin { output, height: vout, coinbase: false })),
            }
        }
    }

    #[test]
    fn answers_are_the_views_own_and_each_is_read_once() {
        let view = Odd::default();
        let coin = |vout| OutPoint { txid: Txid::all_zeros(), vout };
        let first = spend(&[coin(1), coin(2), coin(99)], &[Amount::ZERO]);
        let created = OutPoint { txid: first.compute_txid(), vout: 0 };
        let second = spend(&[created, coin(3)], &[Amount::ZERO]);
        let block = block_after(&regtest().genesis.header, 1, 0, vec![first, second]);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");
        let fetched = Fetched::new(&view, &block, &txids(&block), &pool);
        let asked = || view.0.load(Ordering::Relaxed);
        assert_eq!(asked(), 4, "all but what the block creates");
        let height = |vout| fetched.coin(&coin(vout)).map(|coin| coin.map(|coin| coin.height));
        assert_eq!(height(1), Ok(Some(1)));
        assert_eq!(height(2), Ok(None));
        assert_eq!(height(99), Err(coin(99)));
        assert_eq!(asked(), 4);
        // What nobody expected is asked of the view, and what follows is still at hand.
        assert_eq!(height(7), Ok(Some(7)));
        assert_eq!(asked(), 5);
        assert_eq!(height(3), Ok(Some(3)));
        assert_eq!(asked(), 5);
        assert_eq!(height(3), Ok(Some(3)));
        assert_eq!(asked(), 6);
    }
}

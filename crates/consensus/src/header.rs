//! Rules of a header in its place (Core's `ContextualCheckBlockHeader`).

use crate::error::{BlockReject, BlockRejectKind};
use crate::params::Params;
use crate::pow::{Ancestors, check_proof_of_work, next_work_required};
use bitcoin::block::Header;

/// How far ahead of the clock a block's time may be, in seconds.
pub const MAX_FUTURE_BLOCK_TIME: u32 = 2 * 60 * 60;
/// How far before its predecessor the first block of a period may be under BIP 94, in seconds.
pub const MAX_TIMEWARP: u32 = 600;

fn reject(reason: impl Into<std::borrow::Cow<'static, str>>, debug: &str) -> BlockReject {
    BlockReject { kind: BlockRejectKind::InvalidHeader, reason: reason.into(), debug: debug.into() }
}

/// Checks what can be checked of a header alone: its proof of work.
///
/// # Errors
/// `high-hash`.
pub fn check_header(header: &Header, params: &Params) -> Result<(), BlockReject> {
    check_proof_of_work(&header.block_hash(), header.bits, params)
}

/// Checks a header after `chain`; `now` is the clock, seconds since 1970.
///
/// # Errors
/// `bad-diffbits`, `time-too-old`, `time-timewarp-attack`, `time-too-new` (transient), `bad-version(0x…)`.
pub fn contextual_check_header(
    header: &Header,
    chain: &impl Ancestors,
    params: &Params,
    now: u32,
) -> Result<(), BlockReject> {
    let height = chain.height() + 1;
    if header.bits != next_work_required(chain, header.time, params) {
        return Err(reject("bad-diffbits", "incorrect proof of work"));
    }
    if header.time <= chain.median_time_past() {
        return Err(reject("time-too-old", "block's timestamp is too early"));
    }
    if params.enforce_bip94 && header.time < minimum_time(chain, params) {
        return Err(reject("time-timewarp-attack", "block's timestamp is too early on diff adjustment block"));
    }
    if header.time > now.saturating_add(MAX_FUTURE_BLOCK_TIME) {
        return Err(BlockReject {
            kind: BlockRejectKind::TimeFuture,
            ..reject("time-too-new", "block timestamp too far in the future")
        });
    }
    let version = header.version.to_consensus();
    if (version < 2 && height >= params.bip34_height)
        || (version < 3 && height >= params.bip66_height)
        || (version < 4 && height >= params.bip65_height)
    {
        return Err(reject(
            format!("bad-version(0x{version:08x})"),
            &format!("rejected nVersion=0x{version:08x} block"),
        ));
    }
    Ok(())
}

/// Least time of a new block after `chain`, seconds since 1970: Core's `GetMinimumTime`, which keeps BIP 94's rule on every
/// network, also where blocks that break it are valid.
pub fn minimum_time(chain: &impl Ancestors, params: &Params) -> u32 {
    let after_median = chain.median_time_past().saturating_add(1);
    let height = chain.height() + 1;
    if height.is_multiple_of(params.difficulty_adjustment_interval()) {
        let previous = chain.header(chain.height()).time;
        return after_median.max(previous.saturating_sub(MAX_TIMEWARP));
    }
    after_median
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::{CompactTarget, Network, block::Version};

    struct Chain(Vec<Header>);
    impl Ancestors for Chain {
        fn height(&self) -> u32 {
            self.0.len() as u32 - 1
        }
        fn header(&self, height: u32) -> Header {
            self.0[height as usize]
        }
    }

    fn chain(params: &Params, length: u32) -> Chain {
        Chain(
            (0..length)
                .map(|height| Header { time: params.genesis.header.time + height * 600, ..params.genesis.header })
                .collect(),
        )
    }

    fn next(chain: &Chain) -> Header {
        let last = chain.header(chain.height());
        Header { time: last.time + 600, version: Version::from_consensus(0x2000_0000), ..last }
    }

    fn reason(header: &Header, chain: &Chain, params: &Params, now: u32) -> String {
        contextual_check_header(header, chain, params, now).expect_err("refused").reason.into_owned()
    }

    #[test]
    fn each_rule_has_its_reason() {
        let params = Params::new(Network::Regtest).expect("supported");
        let chain = chain(&params, 20);
        let good = next(&chain);
        let now = good.time;
        contextual_check_header(&good, &chain, &params, now).expect("valid");

        let bits = CompactTarget::from_consensus(0x207f_fffe);
        assert_eq!(reason(&Header { bits, ..good }, &chain, &params, now), "bad-diffbits");

        let median = chain.median_time_past();
        assert_eq!(median, chain.header(14).time, "the sixth of the last eleven");
        assert_eq!(reason(&Header { time: median, ..good }, &chain, &params, now), "time-too-old");
        contextual_check_header(&Header { time: median + 1, ..good }, &chain, &params, now).expect("valid");

        let last = now + 7_200;
        contextual_check_header(&Header { time: last, ..good }, &chain, &params, now).expect("valid");
        let late = Header { time: last + 1, ..good };
        let rejected = contextual_check_header(&late, &chain, &params, now).expect_err("refused");
        assert_eq!((rejected.kind, &*rejected.reason), (BlockRejectKind::TimeFuture, "time-too-new"));

        for version in [1, 2, 3, -1] {
            let header = Header { version: Version::from_consensus(version), ..good };
            assert_eq!(reason(&header, &chain, &params, now), format!("bad-version(0x{version:08x})"));
        }
    }

    #[test]
    fn versions_are_outdated_from_their_heights_on() {
        let params = Params {
            bip34_height: 10,
            bip66_height: 20,
            bip65_height: 30,
            ..Params::new(Network::Regtest).expect("supported")
        };
        for (length, version, valid) in
            [(9, 1, true), (10, 1, false), (19, 2, true), (20, 2, false), (29, 3, true), (30, 3, false), (30, 4, true)]
        {
            let chain = chain(&params, length);
            let header = Header { version: Version::from_consensus(version), ..next(&chain) };
            let checked = contextual_check_header(&header, &chain, &params, header.time);
            assert_eq!(checked.is_ok(), valid, "version {version} at {length}");
        }
    }

    #[test]
    fn bip_94_refuses_a_time_warp_on_the_first_block_of_a_period() {
        let params = Params { enforce_bip94: true, ..Params::new(Network::Regtest).expect("supported") };
        let chain = chain(&params, 144);
        let last = chain.header(143).time;
        let warp = Header { time: last - MAX_TIMEWARP - 1, ..next(&chain) };
        assert_eq!(reason(&warp, &chain, &params, last), "time-timewarp-attack");
        let edge = Header { time: last - MAX_TIMEWARP, ..warp };
        contextual_check_header(&edge, &chain, &params, last).expect("valid");
        assert_eq!(minimum_time(&chain, &params), edge.time);
        let elsewhere = Params { enforce_bip94: false, ..params };
        contextual_check_header(&warp, &chain, &elsewhere, last).expect("valid where BIP 94 does not hold");
        assert_eq!(minimum_time(&chain, &elsewhere), edge.time, "but not what is mined here");
    }
}

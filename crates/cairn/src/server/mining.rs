//! What a miner is told: its pace, and the key of a signet's blocks.

use crate::error::CliError;
use crate::settings::Settings;
use bitcoin::{Network, Script, ScriptBuf};
use cairn_consensus::params::Params;
use cairn_mining::pace::{Pace, Pacing, Share};
use cairn_mining::signet::{SignetKey, is_open};
use cairn_node::{MiningStatus, NodeConfig};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Seconds between blocks unless told otherwise.
const DEFAULT_BLOCK_TIME: f64 = 10.0;
/// Seconds between the blocks of a signet unless told otherwise.
pub(crate) const SIGNET_BLOCK_TIME: u32 = 600;
/// Longest time between blocks that makes sense: a day.
const MAX_BLOCK_TIME: Duration = Duration::from_secs(86_400);
/// Most bytes of a key file: more than the largest descriptor there is.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// How fast blocks are made.
pub(crate) fn pace(settings: &Settings) -> Result<Pace, CliError> {
    // Faster than the retargets of a signet of one's own aim at, they would make its difficulty grow without need.
    let default = match settings.signet.challenge {
        Some(_) => settings.signet.block_time.unwrap_or(SIGNET_BLOCK_TIME).into(),
        None => DEFAULT_BLOCK_TIME,
    };
    let seconds = settings.mining.block_time.unwrap_or(default);
    let block_time = Duration::try_from_secs_f64(seconds).ok().filter(|time| *time <= MAX_BLOCK_TIME);
    let block_time = block_time.ok_or_else(|| {
        CliError::usage(format!("{seconds} is no time between blocks"))
            .remedy("give --block-time (mining.block_time) seconds from 0 (only on demand) to 86400")
    })?;
    let share = Share::new(settings.mining.share.unwrap_or(1.0))
        .map_err(|error| CliError::usage(error).remedy("correct --share or mining.share"))?;
    let pacing = settings.mining.pacing.as_deref().map_or(Ok(Pacing::default()), str::parse);
    let pacing = pacing.map_err(|error| CliError::usage(error).remedy("correct --pacing or mining.pacing"))?;
    Ok(Pace { block_time, share, pacing })
}

/// When blocks come, in words.
pub(crate) fn in_words(height: u32, mining: &MiningStatus) -> String {
    let Pace { block_time, share, pacing } = mining.pace;
    if !mining.running {
        return format!("{height}; more on demand, by generatetoaddress");
    }
    let average = match pacing {
        Pacing::Poisson => " on average",
        Pacing::Fixed => "",
    };
    let seconds = block_time.as_secs_f64();
    if share == Share::WHOLE {
        return format!("{height}; another every {seconds} s{average}");
    }
    let (share, ours) = (share.get(), mining.pace.mean().as_secs_f64());
    format!("{height}; one of ours every {ours:.1} s{average}: a share of {share} of one every {seconds} s")
}

/// The keys that the settings name, of this challenge or else of the public signet's.
pub(crate) fn signet_key(settings: &Settings, challenge: Option<&Script>) -> Result<Option<Arc<SignetKey>>, CliError> {
    let files = &settings.signet.key;
    if files.is_empty() {
        return Ok(None);
    }
    if settings.network.network() != Network::Signet {
        return Err(CliError::usage(format!("blocks of {} are not signed", settings.network.directory()))
            .remedy("give --network signet, or no --signet-key (signet.key)"));
    }
    let public = public_challenge();
    let mut texts = Vec::new();
    for file in files {
        let text = read_key_file(file).map_err(|error| {
            CliError::usage(format!("the signet key {}: {error}", file.display()))
                .remedy("give --signet-key (signet.key) a file that `cairn signet new` made")
        })?;
        texts.push(text);
    }
    let descriptors = texts.iter().flat_map(|text| text.lines()).map(str::trim);
    let descriptors = descriptors.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let key = SignetKey::new(descriptors, challenge.unwrap_or(&public)).map_err(|error| {
        let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        CliError::usage(format!("the signet key {} signs no blocks: {error}", names.join(", "))).remedy(
            "give --signet-challenge (signet.challenge) the challenge that it is of, and --signet-key (signet.key) as \
             many files as keys must sign",
        )
    })?;
    Ok(Some(Arc::new(key)))
}

fn read_key_file(file: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let read = File::open(file)?.take(MAX_KEY_FILE + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_KEY_FILE {
        return Err(io::Error::other(format!("it is larger than {MAX_KEY_FILE} bytes")));
    }
    Ok(text)
}

/// Refuses to mine a signet whose blocks must be signed without a key.
pub(crate) fn require_signet_key(config: &NodeConfig) -> Result<(), CliError> {
    let needs_key = config.network == Network::Signet && config.signet_key.is_none();
    let open = || is_open(config.signet.as_ref().map_or(&public_challenge(), |signet| &signet.challenge));
    if !needs_key || open() {
        return Ok(());
    }
    Err(CliError::usage("the blocks of this signet must be signed, and a miner without a key makes none").remedy(
        "give --signet-key FILE (signet.key), or mine nothing: `cairn node` without --miner, or --block-time 0",
    ))
}

fn public_challenge() -> ScriptBuf {
    Params::new(Network::Signet).and_then(|params| params.signet_challenge).expect("the public signet has a challenge")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_times_are_seconds() {
        let of = |block_time, signet_block_time, challenge: Option<&str>| {
            let mut settings = Settings::default();
            settings.mining.block_time = block_time;
            settings.signet.block_time = signet_block_time;
            settings.signet.challenge = challenge.map(str::to_owned);
            pace(&settings).map(|pace| pace.block_time)
        };
        assert_eq!(of(None, None, None).expect("the default"), Duration::from_secs(10));
        assert_eq!(of(Some(0.0), None, None).expect("on demand"), Duration::ZERO);
        assert_eq!(of(Some(0.25), None, None).expect("a quarter"), Duration::from_millis(250));
        assert_eq!(of(None, None, Some("51")).expect("a signet's"), Duration::from_secs(600));
        assert_eq!(of(None, Some(30), Some("51")).expect("this signet's"), Duration::from_secs(30));
        assert_eq!(of(Some(5.0), Some(30), Some("51")).expect("what was asked for"), Duration::from_secs(5));
        for wrong in [-1.0, f64::NAN, f64::INFINITY, 86_400.1] {
            assert!(of(Some(wrong), None, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_schedule_is_said_in_words() {
        let said = |seconds, share, pacing, running| {
            let pace = Pace { block_time: Duration::from_secs(seconds), share: Share::new(share).unwrap(), pacing };
            in_words(7, &MiningStatus { pace, running, ..MiningStatus::default() })
        };
        assert_eq!(said(10, 1.0, Pacing::Poisson, true), "7; another every 10 s on average");
        assert_eq!(said(10, 1.0, Pacing::Fixed, true), "7; another every 10 s");
        assert_eq!(
            said(10, 0.3, Pacing::Poisson, true),
            "7; one of ours every 33.3 s on average: a share of 0.3 of one every 10 s"
        );
        assert_eq!(said(10, 1.0, Pacing::Poisson, false), "7; more on demand, by generatetoaddress");
    }
}

//! The log: to stderr, as text for people or JSON for collectors.

use crate::error::CliError;
use crate::settings::Log;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging. Called once, before anything that logs.
pub(crate) fn start(log: &Log) -> Result<(), CliError> {
    let level = log.level.as_deref().unwrap_or("warn");
    let filter = EnvFilter::try_new(level).map_err(|error| {
        CliError::usage(format!("log level {level:?}: {error}")).remedy("use off, error, warn, info, debug or trace")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if log.json {
        builder.json().init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init();
    }
    Ok(())
}

//! What people see: results on stdout; progress on stderr, where that is a terminal.

use crate::error::CliError;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Whether anybody sees progress.
pub(crate) fn shows_progress() -> bool {
    std::io::stderr().is_terminal()
}

fn target() -> ProgressDrawTarget {
    if shows_progress() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

fn bar(template: &'static str, length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the templates are constants that parse");
    ProgressBar::with_draw_target(Some(length), target())
        .with_style(style.progress_chars("=> "))
        .with_message(what)
        .with_finish(ProgressFinish::AndClear)
}

/// A bar over `length` bytes; with a length of 0 it only counts.
pub(crate) fn bytes_bar(what: &'static str, length: u64) -> ProgressBar {
    let template = if length == 0 {
        "{msg} {bytes} {bytes_per_sec}"
    } else {
        "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}"
    };
    bar(template, length, what)
}

/// A bar over `length` blocks.
pub(crate) fn blocks_bar(what: &'static str, length: u64) -> ProgressBar {
    bar("{msg} [{bar:30}] {pos}/{len} {eta}", length, what)
}

/// A bar of a chain that catches up from a height; its message is the pace.
pub(crate) fn synchronisation_bar(height: u32) -> ProgressBar {
    bar("synchronising [{bar:30}] {pos}/{len} {msg}", u64::from(height), "")
}

/// A bar over a few steps whose names are its message; it counts the seconds, since nobody knows when a block comes.
pub(crate) fn steps_bar(what: &'static str, steps: u64) -> ProgressBar {
    let bar = bar("[{bar:30}] {elapsed} {msg}", steps, what);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// Names and values, one a line, the values aligned.
pub(crate) fn aligned(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = rows.iter().map(|(name, value)| format!("  {name:<width$}  {value}")).collect();
    lines.join("\n")
}

/// Prints a result. A reader that has gone away, such as `head`, is no failure.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CliError::failed(format!("standard output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

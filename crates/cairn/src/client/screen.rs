//! What the client commands show: results on stdout, progress on stderr where that is a terminal.

use crate::error::CliError;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::Duration;

fn target() -> ProgressDrawTarget {
    if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

/// A bar over `length` bytes; with a length of 0 it only counts.
pub(crate) fn bytes_bar(what: &'static str, length: u64) -> ProgressBar {
    let template = if length == 0 {
        "{msg} {bytes} {bytes_per_sec}"
    } else {
        "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}"
    };
    let style = ProgressStyle::with_template(template).expect("the templates are constants that parse");
    ProgressBar::with_draw_target(Some(length), target()).with_style(style.progress_chars("=> ")).with_message(what)
}

/// Something that turns while one waits.
pub(crate) fn spinner(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target()).with_message(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
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

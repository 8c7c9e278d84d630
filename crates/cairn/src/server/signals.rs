//! Signals that end a process.

use std::pin::pin;

/// Ctrl-C or SIGTERM, from the call on; a second one ends the process at once.
pub(crate) fn signal() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let handlers = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = handlers else {
            // Without handlers the default applies: the signal ends the process, and the next start recovers.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tokio::spawn(async move {
            interrupt.recv().await;
            eprintln!("stopped at once; the next start recovers");
            std::process::exit(130);
        });
    }
}

/// SIGHUPs, from the call on.
pub(crate) fn hangups() -> Hangups {
    Hangups(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok())
}

/// SIGHUPs as they come.
pub(crate) struct Hangups(Option<tokio::signal::unix::Signal>);

impl Hangups {
    /// The next one.
    pub(crate) async fn next(&mut self) {
        let received = match &mut self.0 {
            Some(signal) => signal.recv().await,
            // Without a handler the default applies: the signal ends the process.
            None => None,
        };
        if received.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Drives `server` until it ends by itself or `signalled` is done; then it is `stop` that makes it end.
pub(crate) async fn serve_until<T>(
    signalled: impl Future<Output = ()>,
    server: impl Future<Output = T>,
    stop: impl Future<Output = ()>,
) -> T {
    let mut server = pin!(server);
    tokio::select! {
        result = &mut server => result,
        () = signalled => {
            eprintln!("stopping…");
            stop.await;
            server.await
        }
    }
}

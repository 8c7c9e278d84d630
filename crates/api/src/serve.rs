//! Listening and draining, the same for HTTP and JSON-RPC.

use axum::Router;
use axum::serve::ListenerExt as _;
use std::io;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves until `shutdown`, then lets open requests end, at most for `drain`. Connections that are idle close at once.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    drain: Duration,
) -> io::Result<()> {
    let listener = listener.tap_io(|stream| {
        // Answers are small: waiting to fill a segment only costs time. Where it cannot be set, nothing breaks.
        let _ = stream.set_nodelay(true);
    });
    let serving = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let deadline = async {
        shutdown.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        result = serving.into_future() => result,
        () = deadline => {
            tracing::warn!("requests were still open {} s after the stop and were cut off", drain.as_secs());
            Ok(())
        }
    }
}

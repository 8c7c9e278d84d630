//! The addresses that a process listens on.

use crate::error::CliError;
use std::io::ErrorKind;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// A listener and where it is.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Listener {
    /// Listens on what `flag` sets.
    pub(crate) async fn bind(address: SocketAddr, flag: &str) -> Result<Listener, CliError> {
        let socket = TcpListener::bind(address).await.map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => CliError::failed(format!("{address} is in use by another process"))
                .remedy(format!("stop it, or choose another address with {flag}")),
            _ => CliError::failed(format!("cannot listen on {address} ({error})"))
                .remedy(format!("choose another address with {flag}")),
        })?;
        let address = socket.local_addr();
        let address = address.map_err(|error| CliError::failed(format!("a listener has no address: {error}")))?;
        Ok(Listener { socket, address })
    }
}

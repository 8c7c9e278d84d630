//! Chain parameters of the four networks.

use bitcoin::Network;

/// Everything that differs between networks and that a rule reads.
#[derive(Debug, Clone)]
pub struct Params {
    /// Which network.
    pub network: Network,
    /// Its genesis block.
    pub genesis: bitcoin::Block,
}

impl Params {
    /// Parameters of a network: regtest, signet (default challenge), testnet4, mainnet. `None` for testnet3.
    pub fn new(network: Network) -> Option<Params> {
        let _ = network;
        todo!()
    }
}

//! Which rule of `consensus` is asked when, and what it is told of a block's place in the tree.

use crate::index::{Id, Index};
use bitcoin::Block;
use bitcoin::block::Header;
use cairn_consensus::error::BlockReject;
use cairn_consensus::params::Params;

pub(crate) fn magic(params: &Params) -> [u8; 4] {
    params.network.magic().to_bytes()
}
pub(crate) fn check_header(header: &Header, params: &Params) -> Result<(), BlockReject> {
    let _ = (header, params);
    Ok(())
}
pub(crate) fn contextual_check_header(header: &Header, params: &Params, index: &Index, parent: Id, now: u32) -> Result<(), BlockReject> {
    let _ = (header, params, index, parent, now);
    Ok(())
}
pub(crate) fn check_block(block: &Block, params: &Params, pow: bool, merkle: bool) -> Result<(), BlockReject> {
    let _ = (block, params, pow, merkle);
    Ok(())
}
pub(crate) fn contextual_check_block(block: &Block, params: &Params, index: &Index, parent: Id) -> Result<(), BlockReject> {
    let _ = (block, params, index, parent);
    Ok(())
}

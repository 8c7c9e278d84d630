//! stub
#![allow(missing_docs)]
use super::health::Check;
use super::problem::Problem;
use crate::state::AppState;
pub(crate) async fn is_known(_: &AppState, _: &[u8]) -> Result<bool, Problem> {
    Ok(false)
}
pub(crate) async fn readiness(_: &AppState) -> Check {
    Check::new("stamping", true, String::new())
}
pub(crate) async fn set_gauges(_: &AppState) {}

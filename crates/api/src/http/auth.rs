//! Who may call: the `X-API-Key` header.

use super::problem::Problem;
use crate::keys::Key;
use crate::state::Services;
use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};

/// Proof that the caller holds the admin key.
pub(crate) struct Admin;

/// Proof that the caller holds the wallet key.
pub(crate) struct WalletOwner;

fn check(headers: &HeaderMap, key: Option<&Key>, name: &str) -> Result<(), Problem> {
    let Some(key) = key else {
        return Err(Problem::new(StatusCode::FORBIDDEN, format!("this server has no {name} key, so that nobody may")));
    };
    let Some(given) = headers.get("x-api-key") else {
        return Err(unauthorized(format!("this needs the {name} key in the X-API-Key header")));
    };
    if key.is(given.as_bytes()) { Ok(()) } else { Err(unauthorized(format!("that is not the {name} key"))) }
}

fn unauthorized(detail: String) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

impl<S: Send + Sync> FromRequestParts<S> for Admin
where
    Services: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        check(&parts.headers, Services::from_ref(state).admin_key.as_ref(), "admin").map(|()| Admin)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for WalletOwner
where
    Services: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        check(&parts.headers, Services::from_ref(state).wallet_key.as_ref(), "wallet").map(|()| WalletOwner)
    }
}

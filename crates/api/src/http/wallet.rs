//! The wallet, for holders of its key.

use super::auth::WalletOwner;
use super::problem::{ApiJson, ApiPath, ApiQuery, Problem};
use super::{Page, blocking};
use crate::rpc::decode_address;
use crate::state::AppState;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bitcoin::{Amount, ScriptBuf};
use cairn_store::StoreError;
use cairn_wallet::Payer as _;
use cairn_wallet::wallet::Cursor;
use cairn_wallet::{BuiltTransaction, TransactionState, WalletError, WalletTransaction};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Transactions on a page unless the client says otherwise, and at most.
const PAGE: u32 = 50;
const MAX_PAGE: u32 = 500;
/// Fee rate of a payment unless the client says otherwise or the mempool asks for more, satoshi for 1,000 vbytes.
const FEE_RATE: u64 = 1000;
/// How often a payment is built again because another one took its coins.
const ATTEMPTS: u32 = 5;

impl From<WalletError> for Problem {
    fn from(error: WalletError) -> Problem {
        let detail = error.to_string();
        match &error {
            WalletError::InsufficientFunds { needed, available, .. } => Problem::unprocessable(detail)
                .of_kind("insufficient-funds", "Not enough coins")
                .with("needed_sat", needed.to_sat())
                .with("available_sat", available.to_sat()),
            WalletError::NoRecipients | WalletError::Dust { .. } | WalletError::AmountTooLarge => {
                Problem::unprocessable(detail)
            }
            WalletError::PassphraseMissing(_) | WalletError::PassphraseWrong(_) => {
                Problem::new(StatusCode::CONFLICT, detail)
            }
            WalletError::Store(error) if error.is_transient() => Problem::unavailable(detail),
            WalletError::Source(_) => Problem::unavailable(detail),
            _ => Problem::internal(&error),
        }
    }
}

/// The name of the path must be that of the wallet here.
fn check_name(state: &AppState, name: &str) -> Result<(), Problem> {
    if name == state.wallet.name() {
        return Ok(());
    }
    Err(Problem::not_found(format!("there is no wallet {name:?} here: /api/v1/wallets lists what there is")))
}

/// The script that rewards go to.
pub(super) async fn reward_script(state: &AppState) -> Result<ScriptBuf, Problem> {
    Ok(state.wallet.reward_address()?.script_pubkey())
}

/// A wallet.
#[derive(Debug, Serialize, ToSchema)]
pub struct WalletView {
    /// Name.
    name: String,
    /// Height of the last block that it has seen.
    height: u32,
    /// Descriptor of receiving addresses, without private keys.
    external_descriptor: String,
    /// Descriptor of change addresses, without private keys.
    internal_descriptor: String,
}

/// The wallets.
#[utoipa::path(
    get, path = "/api/v1/wallets", tag = "wallet", security(("api_key" = [])),
    responses(
        (status = 200, body = Page<WalletView>),
        (status = 401, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn wallets(_: WalletOwner, State(state): State<AppState>) -> Result<Json<Page<WalletView>>, Problem> {
    let wallet = &state.wallet;
    let (external_descriptor, internal_descriptor) = wallet.descriptors();
    let height = wallet.height().await?;
    let view = WalletView { name: wallet.name().to_owned(), height, external_descriptor, internal_descriptor };
    Ok(Json(Page { items: vec![view], next_cursor: None }))
}

/// An address.
#[derive(Debug, Serialize, ToSchema)]
pub struct AddressView {
    /// The address.
    address: String,
}

/// The receiving addresses that were given out, oldest first.
#[utoipa::path(
    get, path = "/api/v1/wallets/{name}/addresses", tag = "wallet", security(("api_key" = [])),
    params(("name" = String, Path, description = "The wallet")),
    responses(
        (status = 200, body = Page<AddressView>),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn addresses(
    _: WalletOwner,
    State(state): State<AppState>,
    ApiPath(name): ApiPath<String>,
) -> Result<Json<Page<AddressView>>, Problem> {
    check_name(&state, &name)?;
    let addresses = state.wallet.addresses().await?;
    let items = addresses.iter().map(|address| AddressView { address: address.to_string() }).collect();
    Ok(Json(Page { items, next_cursor: None }))
}

/// A receiving address that was not given out before.
#[utoipa::path(
    post, path = "/api/v1/wallets/{name}/addresses", tag = "wallet", security(("api_key" = [])),
    params(("name" = String, Path, description = "The wallet")),
    responses(
        (status = 201, body = AddressView),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn new_address(
    _: WalletOwner,
    State(state): State<AppState>,
    ApiPath(name): ApiPath<String>,
) -> Result<(StatusCode, Json<AddressView>), Problem> {
    check_name(&state, &name)?;
    let address = state.wallet.next_address().await?;
    Ok((StatusCode::CREATED, Json(AddressView { address: address.to_string() })))
}

/// What a wallet has, in satoshi.
#[derive(Debug, Serialize, ToSchema)]
pub struct BalanceView {
    /// Spendable now.
    confirmed_sat: u64,
    /// Unconfirmed, from ourselves.
    trusted_pending_sat: u64,
    /// Unconfirmed, from others.
    untrusted_pending_sat: u64,
    /// Rewards below 100 confirmations.
    immature_sat: u64,
    /// All of them.
    total_sat: u64,
}

/// What a wallet has.
#[utoipa::path(
    get, path = "/api/v1/wallets/{name}/balance", tag = "wallet", security(("api_key" = [])),
    params(("name" = String, Path, description = "The wallet")),
    responses(
        (status = 200, body = BalanceView),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn balance(
    _: WalletOwner,
    State(state): State<AppState>,
    ApiPath(name): ApiPath<String>,
) -> Result<Json<BalanceView>, Problem> {
    check_name(&state, &name)?;
    let balance = state.wallet.balance().await?;
    let parts = [balance.confirmed, balance.trusted_pending, balance.untrusted_pending, balance.immature];
    let [confirmed_sat, trusted_pending_sat, untrusted_pending_sat, immature_sat] = parts.map(Amount::to_sat);
    let total_sat = parts.iter().map(|part| part.to_sat()).fold(0, u64::saturating_add);
    Ok(Json(BalanceView { confirmed_sat, trusted_pending_sat, untrusted_pending_sat, immature_sat, total_sat }))
}

/// A transaction of a wallet.
#[derive(Debug, Serialize, ToSchema)]
pub struct WalletTransactionView {
    /// Id.
    txid: String,
    /// `pending`, `confirmed`, `replaced`, `abandoned`, `conflicted` or `orphaned`.
    state: &'static str,
    /// Height of its block; none while it is in none.
    height: Option<u32>,
    /// Time of its block, or when it was recorded; seconds since 1970.
    time: u32,
    /// What it brings (positive) or takes, in satoshi.
    amount_sat: i64,
    /// Its fee in satoshi, where all its inputs are the wallet's.
    fee_sat: Option<u64>,
    /// Whether it is a block's reward.
    coinbase: bool,
}

impl From<&WalletTransaction> for WalletTransactionView {
    fn from(tx: &WalletTransaction) -> Self {
        WalletTransactionView {
            txid: tx.txid.to_string(),
            state: match tx.state {
                TransactionState::Pending => "pending",
                TransactionState::Confirmed => "confirmed",
                TransactionState::Replaced => "replaced",
                TransactionState::Abandoned => "abandoned",
                TransactionState::Conflicted => "conflicted",
                TransactionState::Orphaned => "orphaned",
            },
            height: tx.height,
            time: tx.time,
            amount_sat: tx.amount.to_sat(),
            fee_sat: tx.fee.map(Amount::to_sat),
            coinbase: tx.coinbase,
        }
    }
}

/// Which page of the history.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct TransactionsQuery {
    /// `next_cursor` of the page before; the newest when left out.
    cursor: Option<String>,
    /// How many, 1 to 500; 50 when left out.
    limit: Option<u32>,
}

/// A wallet's transactions, newest first.
#[utoipa::path(
    get, path = "/api/v1/wallets/{name}/transactions", tag = "wallet", security(("api_key" = [])),
    params(("name" = String, Path, description = "The wallet"), TransactionsQuery),
    responses(
        (status = 200, body = Page<WalletTransactionView>),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn transactions(
    _: WalletOwner,
    State(state): State<AppState>,
    ApiPath(name): ApiPath<String>,
    ApiQuery(query): ApiQuery<TransactionsQuery>,
) -> Result<Json<Page<WalletTransactionView>>, Problem> {
    check_name(&state, &name)?;
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::bad_request(format!("limit is {limit}: it must be from 1 to {MAX_PAGE}")));
    }
    let cursor: Option<Cursor> = match query.cursor {
        Some(cursor) => Some(cursor.parse().map_err(|error| Problem::bad_request(format!("cursor: {error}")))?),
        None => None,
    };
    let found = state.wallet.transactions(cursor, limit).await?;
    let full = u32::try_from(found.len()).is_ok_and(|count| count == limit);
    let next_cursor = found.last().filter(|_| full).map(|last| last.cursor.to_string());
    Ok(Json(Page { items: found.iter().map(WalletTransactionView::from).collect(), next_cursor }))
}

/// A payment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// Whom, and how much.
    recipients: Vec<Recipient>,
    /// Fee rate, satoshi for 1,000 vbytes; what the mempool takes, at least 1,000, when left out.
    fee_rate_sat_per_kvb: Option<u64>,
}

/// Who is paid.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipient {
    /// Address of this network.
    address: String,
    /// Satoshi.
    amount_sat: u64,
}

/// What was sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct Sent {
    /// Id of the transaction.
    txid: String,
    /// Its fee in satoshi.
    fee_sat: u64,
}

/// Pay. The transaction is recorded before it is sent.
#[utoipa::path(
    post, path = "/api/v1/wallets/{name}/send", tag = "wallet", security(("api_key" = [])), request_body = Send,
    params(("name" = String, Path, description = "The wallet")),
    responses(
        (status = 200, body = Sent),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn send(
    _: WalletOwner,
    State(state): State<AppState>,
    ApiPath(name): ApiPath<String>,
    ApiJson(payment): ApiJson<Send>,
) -> Result<Json<Sent>, Problem> {
    check_name(&state, &name)?;
    let network = state.node.chain.params().network;
    let mut recipients = Vec::with_capacity(payment.recipients.len());
    for (index, recipient) in payment.recipients.iter().enumerate() {
        let address = decode_address(&recipient.address, network).map_err(|why| {
            Problem::unprocessable(format!("recipient {index}, {}: {why}", recipient.address)).with("index", index)
        })?;
        recipients.push((address.script_pubkey(), Amount::from_sat(recipient.amount_sat)));
    }
    let fee_rate = payment.fee_rate_sat_per_kvb.unwrap_or_else(|| state.node.mempool.info().min_fee_rate.max(FEE_RATE));
    let built = build_and_record(&state, &recipients, fee_rate).await?;
    let (txid, fee_sat) = (built.tx.compute_txid(), built.fee.to_sat());
    let tx = built.tx;
    match blocking(&state, move |state| state.node.submit_transaction(tx)).await? {
        Ok(_) => Ok(Json(Sent { txid: txid.to_string(), fee_sat })),
        Err(reject) => {
            // What the mempool does not take is never mined: its coins are free again.
            state.wallet.abandon(&txid).await?;
            Err(Problem::unprocessable(format!("the mempool refused the transaction: {reject}"))
                .of_kind("rejected", "Transaction refused")
                .with("reject_reason", reject.reason.to_string()))
        }
    }
}

/// Builds and records a payment; again where another payment took a coin in between.
async fn build_and_record(
    state: &AppState,
    recipients: &[(ScriptBuf, Amount)],
    fee_rate: u64,
) -> Result<BuiltTransaction, Problem> {
    let mut attempt = 1;
    loop {
        let built = state.wallet.build_payment(recipients, fee_rate).await?;
        let Err(error) = state.wallet.record_payment(&built).await else { return Ok(built) };
        // Not recorded, so that its coins and its change address are free again.
        state.wallet.discard(&built);
        match error {
            WalletError::Store(StoreError::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
            error => return Err(error.into()),
        }
    }
}

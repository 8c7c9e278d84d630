//! Parameters and rows that are the same for both databases.

use crate::StoreError;
use sqlx::{
    Decode, Postgres, Row as _, Sqlite, Type,
    postgres::{PgArguments, PgRow},
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};
use std::time::Duration;

/// A parameter of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// `BIGINT`.
    Int(Option<i64>),
    /// `BLOB` or `BYTEA`.
    Bytes(Option<Vec<u8>>),
    /// `TEXT`.
    Text(Option<String>),
    /// `BIGINT[]` in PostgreSQL; in SQLite a JSON text for `json_each`, as the next two.
    Ints(Vec<i64>),
    /// `TEXT[]`.
    Texts(Vec<Option<String>>),
    /// `BYTEA[]`; hex in SQLite.
    Blobs(Vec<Option<Vec<u8>>>),
}

/// A list as SQLite's `json_each` takes it.
fn as_json<T: serde::Serialize>(list: &[T]) -> String {
    serde_json::to_string(list).expect("numbers and texts are JSON")
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

macro_rules! value_from {
    ($($from:ty => $variant:ident, $map:expr;)*) => {
        $(
            impl From<$from> for Value {
                fn from(value: $from) -> Self {
                    #[allow(clippy::redundant_closure_call, reason = "the macro takes any conversion")]
                    Self::$variant(Some(($map)(value)))
                }
            }
            impl From<Option<$from>> for Value {
                fn from(value: Option<$from>) -> Self {
                    Self::$variant(value.map($map))
                }
            }
        )*
    };
}

value_from! {
    i64 => Int, |v| v;
    u32 => Int, i64::from;
    Vec<u8> => Bytes, |v| v;
    &[u8] => Bytes, <[u8]>::to_vec;
    String => Text, |v| v;
    &str => Text, str::to_owned;
}

/// A time in milliseconds, as columns have it; at most so long that the clock can be added to it.
pub(crate) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX).min(i64::MAX / 4)
}

/// The parameters of a statement: anything that is a [`Value`].
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::value::Value::from($value)),*] };
}
pub(crate) use args;

/// A row of either database.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// A type that a column of both databases decodes to.
pub(crate) trait Column:
    for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>
{
}
impl<T> Column for T where T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres> {}

impl Row {
    /// The value of a column by its position from zero.
    pub(crate) fn get<T: Column>(&self, index: usize) -> Result<T, StoreError> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(index)?,
            Self::Postgres(row) => row.try_get(index)?,
        })
    }

    /// A `BYTEA` column of a fixed length.
    pub(crate) fn get_array<const N: usize>(&self, index: usize) -> Result<[u8; N], StoreError> {
        let bytes: Vec<u8> = self.get(index)?;
        let length = bytes.len();
        bytes.try_into().map_err(|_| StoreError::Row(format!("column {index} has {length} bytes, not {N}")))
    }

    /// A `BIGINT` column that cannot be negative, or above the type's range.
    pub(crate) fn get_uint<T: TryFrom<i64>>(&self, index: usize) -> Result<T, StoreError> {
        let value: i64 = self.get(index)?;
        T::try_from(value).map_err(|_| StoreError::Row(format!("column {index} is {value}")))
    }
}

pub(crate) fn sqlite_query(sql: &'static str, args: Vec<Value>) -> Query<'static, Sqlite, SqliteArguments> {
    let mut query = sqlx::query::<Sqlite>(sql);
    for arg in args {
        query = match arg {
            Value::Int(value) => query.bind(value),
            Value::Bytes(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::Ints(list) => query.bind(as_json(&list)),
            Value::Texts(list) => query.bind(as_json(&list)),
            Value::Blobs(list) => {
                query.bind(as_json(&list.iter().map(|bytes| bytes.as_deref().map(hex)).collect::<Vec<_>>()))
            }
        };
    }
    query
}

/// Never a named statement: PgBouncer in transaction mode would lose it.
pub(crate) fn postgres_query(sql: &'static str, args: Vec<Value>) -> Query<'static, Postgres, PgArguments> {
    let mut query = sqlx::query::<Postgres>(sql).persistent(false);
    for arg in args {
        query = match arg {
            Value::Int(value) => query.bind(value),
            Value::Bytes(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::Ints(list) => query.bind(list),
            Value::Texts(list) => query.bind(list),
            Value::Blobs(list) => query.bind(list),
        };
    }
    query
}

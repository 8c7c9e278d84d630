//! Arguments of a call: their description, the check of their types, named arguments, and typed access with Core's
//! error texts.

use super::error::{RpcError, code, fail};
use bitcoin::Amount;
use bitcoin::hex::FromHex;
use serde_json::{Map, Value};

/// Core's `RPCArg::Type`, as far as the methods here use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Str,
    /// A number.
    Num,
    /// A number whose type the method checks itself (Core's `skip_type_check`).
    NumUnchecked,
    /// A number or string in BTC.
    Amount,
    /// True or false.
    Bool,
    /// An object; the text shows what is inside on the one-line summary.
    Obj(&'static str),
    /// An object whose entries may also be named arguments of the call (Core's `OBJ_NAMED_PARAMS`).
    Options(&'static [&'static str]),
    /// An array; the text shows what is inside on the one-line summary.
    Arr(&'static str),
}

/// One argument of a method.
#[derive(Debug, Clone, Copy)]
pub struct Arg {
    /// Its name, and older names after `|`.
    pub names: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether it must be given.
    pub required: bool,
    /// What holds when it is left out, for the help text.
    pub default: &'static str,
    /// What it means.
    pub about: &'static str,
}

impl Arg {
    /// An argument that must be given.
    pub const fn required(names: &'static str, kind: Kind, about: &'static str) -> Arg {
        Arg { names, kind, required: true, default: "", about }
    }

    /// An argument that may be left out.
    pub const fn optional(names: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Arg {
        Arg { names, kind, required: false, default, about }
    }

    /// Its current name.
    pub fn first_name(&self) -> &'static str {
        self.names.split('|').next().unwrap_or(self.names)
    }

    fn mismatch(&self, value: &Value) -> Option<String> {
        let expected = match self.kind {
            Kind::Str => "string",
            Kind::Num => "number",
            Kind::Bool => "bool",
            Kind::Obj(_) | Kind::Options(_) => "object",
            Kind::Arr(_) => "array",
            Kind::Amount | Kind::NumUnchecked => return None,
        };
        let found = type_name(value);
        if found == expected || (value.is_null() && !self.required) {
            return None;
        }
        Some(wrong_type(found, expected))
    }
}

/// UniValue's name of a JSON type.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn wrong_type(found: &str, expected: &str) -> String {
    format!("JSON value of type {found} is not of expected type {expected}")
}

/// Core's `IsValidNumArgs`: everything up to the last required argument, and no more than all.
pub(crate) fn count_is_valid(args: &[Arg], given: usize) -> bool {
    let needed = args.iter().rposition(|arg| arg.required).map_or(0, |last| last + 1);
    (needed..=args.len()).contains(&given)
}

/// Checks the types of positional arguments as `RPCMethod::HandleRequest` does.
pub(crate) fn check_types(args: &[Arg], params: &[Value]) -> Result<(), RpcError> {
    let mut wrong = Map::new();
    for (i, arg) in args.iter().enumerate() {
        if let Some(text) = arg.mismatch(params.get(i).unwrap_or(&Value::Null)) {
            wrong.insert(format!("Position {} ({})", i + 1, arg.names), Value::String(text));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = wrong.iter().map(|(k, v)| format!("    {}: {v}", Value::String(k.clone()))).collect();
    fail(code::TYPE_ERROR, format!("Wrong type passed:\n{{\n{}\n}}", lines.join(",\n")))
}

/// Core's `transformNamedArguments`: named arguments into positional ones, with `args` for those given by position.
pub(crate) fn positional(args: &[Arg], mut named: Map<String, Value>) -> Result<Vec<Value>, RpcError> {
    let mut out: Vec<Value> = Vec::new();
    let mut hole = 0;
    let mut initial_hole = 0;
    let mut initial_name = None;
    for arg in args {
        let found = arg.names.split('|').find_map(|name| named.remove(name));
        let found = with_options(arg, found, &mut named)?;
        match found {
            Some(value) => {
                out.extend(std::iter::repeat_n(Value::Null, hole));
                hole = 0;
                initial_name.get_or_insert(arg.names);
                out.push(value);
            }
            None => {
                hole += 1;
                if out.is_empty() {
                    initial_hole = hole;
                }
            }
        }
    }
    if named.get("args").is_some_and(Value::is_array)
        && let Some(Value::Array(by_position)) = named.remove("args")
    {
        if let Some(name) = initial_name
            && initial_hole < by_position.len()
        {
            return fail(
                code::INVALID_PARAMETER,
                format!("Parameter {name} specified twice both as positional and named argument"),
            );
        }
        let rest = out.split_off(by_position.len().min(out.len()));
        out = by_position;
        out.extend(rest);
    }
    match named.keys().next() {
        Some(name) => fail(code::INVALID_PARAMETER, format!("Unknown named parameter {name}")),
        None => Ok(out),
    }
}

/// Puts named arguments that are entries of an object of options into that object.
fn with_options(arg: &Arg, found: Option<Value>, named: &mut Map<String, Value>) -> Result<Option<Value>, RpcError> {
    let Kind::Options(names) = arg.kind else { return Ok(found) };
    let mut options = match found {
        None => Map::new(),
        Some(Value::Object(options)) => options,
        Some(other) => return Ok(Some(other)),
    };
    for name in names {
        let Some(value) = named.remove(*name) else { continue };
        if options.insert((*name).to_owned(), value).is_some() {
            return fail(code::INVALID_PARAMETER, format!("Parameter {name} specified multiple times"));
        }
    }
    Ok(Some(Value::Object(options)).filter(|options| options.as_object().is_some_and(|options| !options.is_empty())))
}

/// The positional arguments of one call; those that were left out read as null.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a>(pub &'a [Value]);

impl<'a> Args<'a> {
    /// The argument at a position.
    pub fn get(&self, i: usize) -> &'a Value {
        const NULL: &Value = &Value::Null;
        self.0.get(i).unwrap_or(NULL)
    }

    /// A string.
    pub fn str(&self, i: usize) -> Result<&'a str, RpcError> {
        as_str(self.get(i))
    }

    /// An integer that fits an `i32`, as Core's `getInt<int>`.
    pub fn int(&self, i: usize) -> Result<i32, RpcError> {
        as_int(self.get(i))
    }

    /// An integer, or what holds when it is left out.
    pub fn int_or(&self, i: usize, default: i32) -> Result<i32, RpcError> {
        if self.get(i).is_null() { Ok(default) } else { self.int(i) }
    }

    /// An integer that fits an `i64`, as Core's `getInt<int64_t>`.
    pub fn i64(&self, i: usize) -> Result<i64, RpcError> {
        as_int(self.get(i))
    }

    /// An unsigned integer that fits a `u32`.
    pub fn u32(&self, i: usize) -> Result<u32, RpcError> {
        as_int(self.get(i))
    }

    /// True or false, or what holds when it is left out.
    pub fn bool_or(&self, i: usize, default: bool) -> Result<bool, RpcError> {
        match self.get(i) {
            Value::Null => Ok(default),
            Value::Bool(b) => Ok(*b),
            other => fail(code::TYPE_ERROR, wrong_type(type_name(other), "bool")),
        }
    }

    /// Core's `ParseVerbosity` with booleans allowed: true is 1.
    pub fn verbosity(&self, i: usize, default: i32) -> Result<i32, RpcError> {
        match self.get(i) {
            Value::Bool(b) => Ok(i32::from(*b)),
            _ => self.int_or(i, default),
        }
    }

    /// An array; none when it is left out.
    pub fn array(&self, i: usize) -> Result<&'a [Value], RpcError> {
        match self.get(i) {
            Value::Array(a) => Ok(a),
            other => fail(code::TYPE_ERROR, wrong_type(type_name(other), "array")),
        }
    }

    /// Core's `ParseHashV`: a 32-byte hash as 64 hex digits, shown reversed.
    pub fn hash<H: std::str::FromStr>(&self, i: usize, name: &str) -> Result<H, RpcError> {
        parse_hash(self.str(i)?, name)
    }

    /// An amount in BTC as satoshi, or what holds when it is left out.
    pub fn amount_or(&self, i: usize, default: Amount) -> Result<Amount, RpcError> {
        if self.get(i).is_null() { Ok(default) } else { amount_from_value(self.get(i)) }
    }

    /// Core's `ParseFeeRate`: satoshi for 1,000 vbytes, below 1 BTC.
    pub fn fee_rate_or(&self, i: usize, default: Amount) -> Result<Amount, RpcError> {
        let rate = self.amount_or(i, default)?;
        if rate >= Amount::ONE_BTC {
            return fail(code::INVALID_PARAMETER, "Fee rates larger than or equal to 1BTC/kvB are not accepted");
        }
        Ok(rate)
    }
}

/// A string, or Core's type error.
pub(crate) fn as_str(value: &Value) -> Result<&str, RpcError> {
    value.as_str().ok_or_else(|| RpcError::new(code::TYPE_ERROR, wrong_type(type_name(value), "string")))
}

/// An integer, or Core's type or range error.
pub(crate) fn as_int<T: std::str::FromStr>(value: &Value) -> Result<T, RpcError> {
    match value {
        // The number's own text: `1e3` and `1.0` are no integers to Core either.
        Value::Number(n) => {
            n.to_string().parse().map_err(|_| RpcError::new(code::MISC_ERROR, "JSON integer out of range"))
        }
        other => fail(code::TYPE_ERROR, wrong_type(type_name(other), "number")),
    }
}

/// Core's strict `RPCTypeCheckObj`: an object with these entries and no others. Where `may_lack` says so, an entry or the
/// whole object may be missing.
pub(crate) fn check_object(value: &Value, entries: &[(&str, &str)], may_lack: bool) -> Result<(), RpcError> {
    let empty = Map::new();
    let object = match value {
        Value::Object(object) => object,
        Value::Null if may_lack => &empty,
        other => return fail(code::TYPE_ERROR, wrong_type(type_name(other), "object")),
    };
    for (name, expected) in entries {
        match object.get(*name).unwrap_or(&Value::Null) {
            Value::Null if may_lack => {}
            Value::Null => return fail(code::TYPE_ERROR, format!("Missing {name}")),
            found if type_name(found) != *expected => {
                let found = type_name(found);
                return fail(
                    code::TYPE_ERROR,
                    format!("JSON value of type {found} for field {name} is not of expected type {expected}"),
                );
            }
            _ => {}
        }
    }
    match object.keys().find(|key| entries.iter().all(|(name, _)| name != key)) {
        Some(key) => fail(code::TYPE_ERROR, format!("Unexpected key {key}")),
        None => Ok(()),
    }
}

/// Core's `ParseHashV`.
pub(crate) fn parse_hash<H: std::str::FromStr>(text: &str, name: &str) -> Result<H, RpcError> {
    if text.len() != 64 {
        return fail(
            code::INVALID_PARAMETER,
            format!("{name} must be of length 64 (not {}, for '{text}')", text.len()),
        );
    }
    text.parse().map_err(|_| {
        RpcError::new(code::INVALID_PARAMETER, format!("{name} must be hexadecimal string (not '{text}')"))
    })
}

/// Core's `AmountFromValue` with eight decimals.
fn amount_from_value(value: &Value) -> Result<Amount, RpcError> {
    let text = match value {
        Value::Number(n) => n.to_string(),
        Value::String(s) => s.clone(),
        _ => return fail(code::TYPE_ERROR, "Amount is not a number or string"),
    };
    let satoshi = parse_fixed_point(&text, 8).ok_or_else(|| RpcError::new(code::TYPE_ERROR, "Invalid amount"))?;
    match u64::try_from(satoshi).map(Amount::from_sat) {
        Ok(amount) if amount <= Amount::MAX_MONEY => Ok(amount),
        _ => fail(code::TYPE_ERROR, "Amount out of range"),
    }
}

/// Core's `ParseFixedPoint`: a JSON number as an integer of `decimals` places; `None` if it does not fit exactly.
pub(crate) fn parse_fixed_point(text: &str, decimals: i32) -> Option<i64> {
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            (mantissa, exponent.strip_prefix('+').unwrap_or(exponent).parse::<i32>().ok()?)
        }
        None => (rest, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    let all = format!("{whole}{fraction}");
    let significant = all.trim_end_matches('0');
    let zeros = i32::try_from(all.len() - significant.len()).ok()?;
    let places =
        exponent.checked_add(decimals)?.checked_sub(i32::try_from(fraction.len()).ok()?)?.checked_add(zeros)?;
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    if !(0..=18).contains(&places) || significant.len() > 18 {
        return None;
    }
    let value = significant.parse::<i64>().ok()?.checked_mul(10_i64.checked_pow(u32::try_from(places).ok()?)?)?;
    // Core's bound: one below 10^18.
    (value < 1_000_000_000_000_000_000).then_some(if negative { -value } else { value })
}

/// Core's `IsHex` and `ParseHex`: an even, positive number of hex digits.
pub(crate) fn parse_hex(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() { None } else { Vec::from_hex(text).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ARGS: &[Arg] = &[
        Arg::required("first", Kind::Str, ""),
        Arg::optional("second|old", Kind::NumUnchecked, "1", ""),
        Arg::optional("third", Kind::Bool, "false", ""),
    ];

    fn named(value: Value) -> Result<Vec<Value>, RpcError> {
        match value {
            Value::Object(map) => positional(ARGS, map),
            _ => unreachable!("tests pass objects"),
        }
    }

    #[test]
    fn named_arguments_fill_holes_with_null() {
        assert_eq!(named(json!({"first": "a", "third": true})).unwrap(), [json!("a"), Value::Null, json!(true)]);
        assert_eq!(named(json!({"first": "a"})).unwrap(), [json!("a")]);
        assert_eq!(named(json!({"first": "a", "old": 2})).unwrap(), [json!("a"), json!(2)]);
    }

    #[test]
    fn args_gives_the_first_ones_by_position() {
        assert_eq!(named(json!({"args": ["a"], "second": 2})).unwrap(), [json!("a"), json!(2)]);
        let twice = named(json!({"args": ["a", 1], "second": 2})).unwrap_err();
        assert_eq!(twice.message, "Parameter second|old specified twice both as positional and named argument");
        assert_eq!(named(json!({"nope": 1})).unwrap_err().message, "Unknown named parameter nope");
    }

    #[test]
    fn wrong_types_are_listed_by_position() {
        let error = check_types(ARGS, &[json!(1), json!("x"), json!("y")]).unwrap_err();
        assert_eq!(error.code, code::TYPE_ERROR);
        assert_eq!(
            error.message,
            "Wrong type passed:\n{\n    \"Position 1 (first)\": \"JSON value of type number is not of expected type string\",\n    \"Position 3 (third)\": \"JSON value of type string is not of expected type bool\"\n}"
        );
        assert!(count_is_valid(ARGS, 1) && count_is_valid(ARGS, 3));
        assert!(!count_is_valid(ARGS, 0) && !count_is_valid(ARGS, 4));
    }

    #[test]
    fn fixed_point_follows_core() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(100_000_000)),
            ("-0.1", Some(-10_000_000)),
            ("1e-8", Some(1)),
            ("0.1e-7", Some(1)),
            ("0.01e-6", Some(1)),
            ("0.00000001000000", Some(1)),
            ("19e-9", None),
            ("0.000000019", None),
            ("1e1000", None),
            ("01", None),
            (".1", None),
            ("1.", None),
            ("", None),
            ("1e", None),
            ("92233720368.54775808", None),
        ] {
            assert_eq!(parse_fixed_point(text, 8), expected, "{text}");
        }
    }

    #[test]
    fn hashes_are_refused_with_cores_texts() {
        let short = parse_hash::<bitcoin::Txid>("ab", "txid").unwrap_err();
        assert_eq!(short.message, "txid must be of length 64 (not 2, for 'ab')");
        let text = "z".repeat(64);
        let bad = parse_hash::<bitcoin::Txid>(&text, "txid").unwrap_err();
        assert_eq!(bad.message, format!("txid must be hexadecimal string (not '{text}')"));
    }
}

//! What `help` prints and `docs/rpc.md` holds, both from the table of methods.

use super::args::{Arg, Kind};
use super::{Method, methods};
use std::fmt::Write as _;

/// The category whose methods are left out of the list, as Core leaves out its own.
const HIDDEN: &str = "hidden";

/// `help` without a command: every method's summary by category.
pub fn list_text() -> String {
    let mut shown: Vec<&Method> = methods().filter(|method| method.category != HIDDEN).collect();
    shown.sort_by_key(|method| (method.category, method.name));
    let mut out = String::new();
    let mut category = "";
    for method in shown {
        if method.category != category {
            if !category.is_empty() {
                out.push('\n');
            }
            category = method.category;
            let (first, rest) = category.split_at(1);
            let _ = writeln!(out, "== {}{rest} ==", first.to_uppercase());
        }
        out.push_str(&summary(method));
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out
}

/// `help <command>`; Core's text when there is none of that name.
pub fn command_text(name: &str) -> String {
    match methods().find(|method| method.name == name) {
        Some(method) => method_text(method),
        None => format!("help: unknown command: {name}"),
    }
}

/// The one-line summary: name and arguments, optional ones in parentheses.
fn summary(method: &Method) -> String {
    let mut out = method.name.to_owned();
    let mut optional = false;
    for arg in method.args {
        out.push(' ');
        match (arg.required, optional) {
            (false, false) => out.push_str("( "),
            (true, true) => out.push_str(") "),
            _ => {}
        }
        optional = !arg.required;
        match arg.kind {
            Kind::Str => {
                let _ = write!(out, "\"{}\"", arg.first_name());
            }
            Kind::Obj(inside) => {
                let _ = write!(out, "{{{inside}}}");
            }
            Kind::Options(names) => {
                let inside: Vec<_> = names.iter().map(|name| format!("\"{name}\":{name}")).collect();
                let _ = write!(out, "{{{}}}", inside.join(","));
            }
            Kind::Arr(inside) => {
                let _ = write!(out, "[{inside},...]");
            }
            Kind::Num | Kind::NumUnchecked | Kind::Amount | Kind::Bool => out.push_str(arg.first_name()),
        }
    }
    if optional {
        out.push_str(" )");
    }
    out
}

/// The whole help of one method.
pub fn method_text(method: &Method) -> String {
    let mut out = format!("{}\n\n{}\n", summary(method), method.about.trim());
    if !method.args.is_empty() {
        out.push_str("\nArguments:\n");
        let width = method.args.iter().map(|arg| arg.first_name().len()).max().unwrap_or(0);
        for (i, arg) in method.args.iter().enumerate() {
            let _ = writeln!(out, "{}. {:width$}    {}    {}", i + 1, arg.first_name(), describe(arg), arg.about);
        }
    }
    let _ = write!(out, "\nResult:\n{}\n", method.result.trim());
    if !method.differences.is_empty() {
        let _ = write!(out, "\nDifferences from Bitcoin Core 31:\n{}\n", method.differences.trim());
    }
    out
}

fn describe(arg: &Arg) -> String {
    let kind = match arg.kind {
        Kind::Str => "string",
        Kind::Num | Kind::NumUnchecked => "numeric",
        Kind::Amount => "numeric or string",
        Kind::Bool => "boolean",
        Kind::Obj(_) | Kind::Options(_) => "json object",
        Kind::Arr(_) => "json array",
    };
    match (arg.required, arg.default) {
        (true, _) => format!("({kind}, required)"),
        (false, "") => format!("({kind}, optional)"),
        (false, default) => format!("({kind}, optional, default={default})"),
    }
}

/// The text of `docs/rpc.md`.
pub fn document() -> String {
    let mut out = String::from(
        "# JSON-RPC\n\n\
         Bitcoin Core's JSON-RPC, as of the version whose source `libbitcoinkernel-sys` vendors (31): HTTP POST, Basic or\n\
         cookie authentication (`<data>/<network>/.cookie`), JSON-RPC 1.0, 1.1 and 2.0, batches, named arguments, Core's\n\
         field names, number formats, error codes and texts.\n\n\
         Of keys that a request gives twice in one object the last counts; in Core the first does, and a named argument\n\
         that is given twice is error -8.\n\n\
         This table is made from the code (`crates/api/src/rpc`); a test compares the two. Methods of Core that are not in\n\
         it are not implemented and answer `-32601 Method not found`.\n\n\
         | method | arguments | differences from Core 31 |\n|---|---|---|\n",
    );
    let mut all: Vec<&Method> = methods().collect();
    all.sort_by_key(|method| method.name);
    for method in all {
        let summary = summary(method);
        let args = summary.strip_prefix(method.name).unwrap_or_default().trim();
        let args = if args.is_empty() { String::new() } else { format!("`{}`", args.replace('|', "\\|")) };
        let differences = if method.differences.is_empty() { "none" } else { method.differences };
        let _ = writeln!(out, "| `{}` | {args} | {differences} |", method.name);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_up_to_date() {
        let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo tells tests where their crate is");
        let path = std::path::Path::new(&here).join("../../docs/rpc.md");
        if std::env::var_os("CAIRN_WRITE_DOCS").is_some() {
            std::fs::write(&path, document()).expect("docs/ is writable");
        }
        let written = std::fs::read_to_string(&path).expect("docs/rpc.md exists");
        assert!(written == document(), "docs/rpc.md is stale: run this test again with CAIRN_WRITE_DOCS=1");
    }

    #[test]
    fn names_are_unique_and_every_method_says_what_it_returns() {
        let mut names: Vec<_> = methods().map(|method| method.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(methods().all(|method| !method.about.is_empty() && !method.result.is_empty()));
    }

    #[test]
    fn the_summary_is_cores() {
        let of = |name| summary(methods().find(|method| method.name == name).expect("it is in the table"));
        assert_eq!(of("getblock"), "getblock \"blockhash\" ( verbosity )");
        assert_eq!(of("getrawtransaction"), "getrawtransaction \"txid\" ( verbosity \"blockhash\" )");
        assert_eq!(of("getblockcount"), "getblockcount");
        assert_eq!(of("testmempoolaccept"), "testmempoolaccept [\"rawtx\",...] ( maxfeerate )");
        assert!(list_text().starts_with("== Blockchain ==\ndumptxoutset \"path\" ( \"type\" {\"rollback\":rollback,\"in_memory\":in_memory} )\ngetbestblockhash\n"));
        assert!(!list_text().contains("generatetoaddress"));
        assert_eq!(command_text("nope"), "help: unknown command: nope");
    }
}

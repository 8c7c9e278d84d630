//! Where Bitcoin Core's test data is: in the sources that `libbitcoinkernel-sys` carries.

use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

/// The directory `src` of Bitcoin Core's sources.
static SOURCES: LazyLock<PathBuf> = LazyLock::new(|| package("libbitcoinkernel-sys").join("bitcoin/src"));

/// The directory of a package that the workspace depends on, wherever cargo keeps it.
pub(crate) fn package(name: &str) -> PathBuf {
    // Asked for when it runs: another clone may have built it into a target directory that both share.
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo tells tests where their crate is");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--all-features", "--format-version", "1"])
        .current_dir(here)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let manifest = packages
        .iter()
        .find(|package| package["name"] == name)
        .and_then(|package| package["manifest_path"].as_str())
        .unwrap_or_else(|| panic!("{name} is an optional dependency of the workspace"));
    PathBuf::from(manifest).with_file_name("")
}

/// A source file of Core's, such as `kernel/chainparams.cpp`.
pub(crate) fn source(name: &str) -> String {
    let path = SOURCES.join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file of Core's test data, such as `script_tests.json`.
pub(crate) fn load(name: &str) -> Value {
    let text = source(&format!("test/data/{name}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The cases of a file that is a list of lists; those of one element are comments.
pub(crate) fn load_cases(name: &str) -> Vec<Vec<Value>> {
    let Value::Array(rows) = load(name) else { panic!("{name} is no list") };
    rows.into_iter()
        .map(|row| if let Value::Array(row) = row { row } else { panic!("{name} holds {row}") })
        .filter(|row| row.len() > 1)
        .collect()
}

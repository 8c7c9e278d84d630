//! How a release is linked, so that a process maps no more of the program than it uses
//! (`docs/decisions/0007-idle-memory.md`).

use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

/// Patterns of symbols, made by `scripts/startup_order.py`.
const ORDER: &str = "startup.txt";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={ORDER}");
    let variable = |name| env::var(name).unwrap_or_default();
    if variable("PROFILE") != "release" || variable("TARGET") != "x86_64-unknown-linux-gnu" {
        return Ok(());
    }
    let script = Path::new(&variable("OUT_DIR")).join("startup.ld");
    fs::write(&script, linker_script(&fs::read_to_string(ORDER)?))?;
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
    if variable("HOST") == variable("TARGET") && loader_reads_relr() {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    Ok(())
}

/// Puts the functions of the list side by side and in its order, before all others. All stay in `.text`, where debuggers and
/// profilers look for functions.
fn linker_script(list: &str) -> String {
    let patterns = list.lines().filter(|line| !line.starts_with('#'));
    let first: String = patterns.map(|name| format!("    *(.text.{name} .text.unlikely.{name})\n")).collect();
    format!("SECTIONS {{\n  .text : {{\n{first}    *(.text .text.*)\n  }}\n}} INSERT BEFORE .init;\n")
}

/// Whether the C library is 2.36 or later: older ones do not start a program whose relocations are packed.
fn loader_reads_relr() -> bool {
    let Ok(output) = Command::new("getconf").arg("GNU_LIBC_VERSION").output() else { return false };
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = version.trim().trim_start_matches("glibc ").split('.').map(|number| number.parse::<u32>());
    matches!((numbers.next(), numbers.next()), (Some(Ok(2)), Some(Ok(minor))) if minor >= 36)
}

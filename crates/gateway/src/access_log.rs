//! The access log: written by a thread of its own, so that a slow disk slows no request. Lines that it cannot take are
//! counted and dropped.

use crate::config::LogFormat;
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Lines that may wait.
const QUEUE: usize = 8192;

/// A request that is over.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) client: IpAddr,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) version: &'static str,
    pub(crate) host: &'a str,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) referer: &'a str,
    pub(crate) user_agent: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) duration: Duration,
    /// Time to the head of the backend's answer.
    pub(crate) upstream: Option<Duration>,
    pub(crate) backend: Option<String>,
    pub(crate) attempts: usize,
    pub(crate) error: Option<String>,
}

impl Entry<'_> {
    fn line(&self, format: LogFormat, now: SystemTime) -> String {
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        match format {
            LogFormat::Json => json!({
                "time": rfc3339(since_epoch),
                "client": self.client,
                "method": self.method,
                "path": self.path,
                "host": self.host,
                "status": self.status,
                "bytes": self.bytes,
                "duration_seconds": rounded(self.duration),
                "upstream_seconds": self.upstream.map(rounded),
                "backend": self.backend,
                "attempts": self.attempts,
                "request_id": self.request_id,
                "referer": self.referer,
                "user_agent": self.user_agent,
                "error": self.error,
            })
            .to_string(),
            LogFormat::Combined => format!(
                "{} - - [{}] \"{} {} {}\" {} {} \"{}\" \"{}\"",
                self.client,
                clf_time(since_epoch),
                escaped(self.method),
                escaped(self.path),
                self.version,
                self.status,
                self.bytes,
                escaped(if self.referer.is_empty() { "-" } else { self.referer }),
                escaped(if self.user_agent.is_empty() { "-" } else { self.user_agent }),
            ),
        }
    }
}

/// Seconds with six digits.
fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e6
}

/// As Apache and nginx do, so that a client cannot end a line or a quotation.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => escaped.push_str(&format!("\\x{byte:02X}")),
            _ => escaped.push(char::from(byte)),
        }
    }
    escaped
}

/// Year, month, day, hour, minute and second of a time since 1970, UTC (Howard Hinnant's civil_from_days).
fn civil(since_epoch: Duration) -> (u64, usize, u64, u64, u64, u64) {
    let seconds = since_epoch.as_secs();
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month as usize, day, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// A time since 1970 as RFC 3339 has it, with milliseconds.
pub(crate) fn rfc3339(since_epoch: Duration) -> String {
    let (year, month, day, hour, minute, second) = civil(since_epoch);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since_epoch.subsec_millis())
}

fn clf_time(since_epoch: Duration) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (year, month, day, hour, minute, second) = civil(since_epoch);
    let month = MONTHS.get(month - 1).copied().unwrap_or("Jan");
    format!("{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000")
}

enum Message {
    Line(String),
    Reopen,
}

/// A log that is open.
#[derive(Debug)]
pub(crate) struct AccessLog {
    pub(crate) path: PathBuf,
    pub(crate) format: LogFormat,
    sender: SyncSender<Message>,
    writer: Mutex<Option<JoinHandle<()>>>,
    dropped: Arc<AtomicU64>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Message::Reopen) { "Reopen" } else { "Line" })
    }
}

impl AccessLog {
    /// Opens it for appending; `-` is standard output.
    pub(crate) fn open(path: &Path, format: LogFormat) -> io::Result<AccessLog> {
        let file = open(path)?;
        let (sender, receiver) = sync_channel(QUEUE);
        let (place, dropped) = (path.to_owned(), Arc::new(AtomicU64::new(0)));
        let lost = dropped.clone();
        let writer = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write(&place, file, &receiver, &lost))?;
        Ok(AccessLog { path: path.to_owned(), format, sender, writer: Mutex::new(Some(writer)), dropped })
    }

    pub(crate) fn write(&self, entry: &Entry<'_>) {
        if self.sender.try_send(Message::Line(entry.line(self.format, SystemTime::now()))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file anew: after it was renamed, the next lines are in a new one.
    pub(crate) fn reopen(&self) {
        // A full queue holds lines of before: they go first.
        let _ = self.sender.send(Message::Reopen);
    }

    /// Lines that were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        // The writer ends when nobody can send any more, with everything written.
        let (closed, _) = sync_channel(0);
        drop(std::mem::replace(&mut self.sender, closed));
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = writer.join();
        }
    }
}

fn open(path: &Path) -> io::Result<Box<dyn Write + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdout()));
    }
    Ok(Box::new(OpenOptions::new().append(true).create(true).open(path)?))
}

fn write(path: &Path, file: Box<dyn Write + Send>, receiver: &Receiver<Message>, dropped: &AtomicU64) {
    let mut file = BufWriter::with_capacity(64 * 1024, file);
    let mut complained = false;
    let mut note = |result: io::Result<()>| match result {
        Ok(()) => complained = false,
        Err(error) => {
            dropped.fetch_add(1, Ordering::Relaxed);
            if !complained {
                tracing::warn!(file = %path.display(), %error, "the access log cannot be written");
            }
            complained = true;
        }
    };
    loop {
        let message = match receiver.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                note(file.flush());
                match receiver.recv() {
                    Ok(message) => message,
                    Err(_) => break,
                }
            }
        };
        match message {
            Message::Line(line) => note(writeln!(file, "{line}")),
            Message::Reopen => {
                note(file.flush());
                match open(path) {
                    Ok(new) => file = BufWriter::with_capacity(64 * 1024, new),
                    Err(error) => note(Err(error)),
                }
            }
        }
    }
    note(file.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry<'static> {
        Entry {
            client: "192.0.2.1".parse().expect("an address"),
            method: "GET",
            path: "/a\"b",
            version: "HTTP/1.1",
            host: "here",
            status: 200,
            bytes: 5,
            referer: "",
            user_agent: "curl\n",
            request_id: "abc",
            duration: Duration::from_micros(1500),
            upstream: Some(Duration::from_micros(1000)),
            backend: Some("127.0.0.1:8200".into()),
            attempts: 1,
            error: None,
        }
    }

    #[test]
    fn lines_are_json_or_the_combined_format() {
        // 2000-02-29 12:34:56 UTC.
        let time = UNIX_EPOCH + Duration::from_millis(951_827_696_789);
        let line: serde_json::Value = serde_json::from_str(&entry().line(LogFormat::Json, time)).expect("JSON");
        assert_eq!(line["time"], "2000-02-29T12:34:56.789Z");
        assert_eq!((&line["status"], &line["duration_seconds"]), (&json!(200), &json!(0.0015)));
        assert_eq!(line["path"], "/a\"b");
        assert_eq!(
            entry().line(LogFormat::Combined, time),
            "192.0.2.1 - - [29/Feb/2000:12:34:56 +0000] \"GET /a\\x22b HTTP/1.1\" 200 5 \"-\" \"curl\\x0A\""
        );
    }

    #[test]
    fn a_renamed_log_goes_on_in_a_new_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
        let log = AccessLog::open(&path, LogFormat::Combined).expect("opened");
        log.write(&entry());
        std::fs::rename(&path, &old).expect("renamed");
        log.write(&entry());
        log.reopen();
        log.write(&entry());
        assert_eq!(log.dropped(), 0);
        drop(log);
        let lines = |path| std::fs::read_to_string(path).expect("there").lines().count();
        assert_eq!((lines(&old), lines(&path)), (2, 1));
    }
}

//! Uploads: hashed while they come in, in constant memory, however long they are.

use super::problem::Problem;
use axum::body::Body;
use axum::extract::Multipart;
use axum::http::StatusCode;
use futures_util::StreamExt as _;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Files in one form.
const MAX_FILES: usize = 1000;
/// Bytes of a file's name that are kept.
const MAX_NAME: usize = 255;

/// The digest of something that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hashed {
    /// Its name, if the form gave one.
    pub(crate) name: Option<String>,
    /// SHA-256.
    pub(crate) digest: [u8; 32],
    /// Bytes.
    pub(crate) size: u64,
}

/// Hashes pieces; gives up when none comes for a while.
struct Hasher {
    sha256: Sha256,
    size: u64,
    idle: Duration,
}

impl Hasher {
    fn new(idle: Duration) -> Hasher {
        Hasher { sha256: Sha256::new(), size: 0, idle }
    }

    fn update(&mut self, piece: &[u8]) {
        self.sha256.update(piece);
        self.size += piece.len() as u64;
    }

    fn finish(self, name: Option<String>) -> Hashed {
        Hashed { name, digest: self.sha256.finalize().into(), size: self.size }
    }
}

fn silent(idle: Duration) -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        format!("nothing of the upload came for {} s: send it again", idle.as_secs()),
    )
}

/// Hashes a body as it comes.
pub(crate) async fn hash_body(body: Body, idle: Duration) -> Result<Hashed, Problem> {
    let mut hasher = Hasher::new(idle);
    let mut pieces = body.into_data_stream();
    loop {
        match tokio::time::timeout(hasher.idle, pieces.next()).await {
            Err(_) => return Err(silent(idle)),
            Ok(None) => return Ok(hasher.finish(None)),
            Ok(Some(Ok(piece))) => hasher.update(&piece),
            Ok(Some(Err(error))) => return Err(Problem::bad_request(format!("the upload broke off: {error}"))),
        }
    }
}

/// Hashes every part of a form as it comes. Parts without content and without a name are left out.
pub(crate) async fn hash_form(mut form: Multipart, idle: Duration) -> Result<Vec<Hashed>, Problem> {
    let broken = |error: axum::extract::multipart::MultipartError| Problem::new(error.status(), error.body_text());
    let mut files = Vec::new();
    loop {
        let next = tokio::time::timeout(idle, form.next_field()).await.map_err(|_| silent(idle))?;
        let Some(mut field) = next.map_err(broken)? else { break };
        if files.len() == MAX_FILES {
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a form may have {MAX_FILES} files: send the others in another one, or send digests"),
            ));
        }
        let name = field.file_name().or(field.name()).map(|name| name.chars().take(MAX_NAME).collect::<String>());
        let mut hasher = Hasher::new(idle);
        loop {
            let piece = tokio::time::timeout(idle, field.chunk()).await.map_err(|_| silent(idle))?;
            match piece.map_err(broken)? {
                Some(piece) => hasher.update(&piece),
                None => break,
            }
        }
        // A form's file input without a chosen file comes as an empty part with an empty name.
        if hasher.size > 0 || name.as_deref().is_some_and(|name| !name.is_empty()) {
            files.push(hasher.finish(name));
        }
    }
    Ok(files)
}

/// The first file of a form, if it is no longer than a limit.
pub(crate) async fn read_file(mut form: Multipart, limit: usize, idle: Duration) -> Result<Vec<u8>, Problem> {
    let broken = |error: axum::extract::multipart::MultipartError| Problem::new(error.status(), error.body_text());
    let next = tokio::time::timeout(idle, form.next_field()).await.map_err(|_| silent(idle))?;
    let Some(mut field) = next.map_err(broken)? else {
        return Err(Problem::unprocessable("the form has no file: send one"));
    };
    let mut out = Vec::new();
    loop {
        let piece = tokio::time::timeout(idle, field.chunk()).await.map_err(|_| silent(idle))?;
        match piece.map_err(broken)? {
            Some(piece) if out.len() + piece.len() > limit => {
                let detail = format!("the file is longer than {limit} bytes");
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
            }
            Some(piece) => out.extend_from_slice(&piece),
            None => return Ok(out),
        }
    }
}

/// Reads a body that has a limit; one that is longer is refused.
pub(crate) async fn read_limited(body: Body, limit: usize, idle: Duration) -> Result<Vec<u8>, Problem> {
    let mut out = Vec::new();
    let mut pieces = body.into_data_stream();
    loop {
        match tokio::time::timeout(idle, pieces.next()).await {
            Err(_) => return Err(silent(idle)),
            Ok(None) => return Ok(out),
            Ok(Some(Ok(piece))) if out.len() + piece.len() > limit => {
                return Err(Problem::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("the body is longer than {limit} bytes: send it in several requests"),
                ));
            }
            Ok(Some(Ok(piece))) => out.extend_from_slice(&piece),
            Ok(Some(Err(error))) => return Err(Problem::bad_request(format!("the upload broke off: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hex::DisplayHex;

    const IDLE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_body_is_hashed_whatever_its_pieces() {
        let pieces = ["a", "b", "c"].map(Ok::<_, std::io::Error>);
        let hashed = hash_body(Body::from_stream(futures_util::stream::iter(pieces)), IDLE).await.unwrap();
        assert_eq!(hashed.size, 3);
        assert_eq!(
            hashed.digest.to_lower_hex_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_refused() {
        let pieces = [Ok("a"), Err(std::io::Error::other("gone"))];
        let problem = hash_body(Body::from_stream(futures_util::stream::iter(pieces)), IDLE).await.unwrap_err();
        assert_eq!(problem.status, 400);
    }

    #[tokio::test]
    async fn a_limit_is_kept() {
        assert_eq!(read_limited(Body::from("1234"), 4, IDLE).await.unwrap(), b"1234");
        assert_eq!(read_limited(Body::from("12345"), 4, IDLE).await.unwrap_err().status, 413);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_an_upload() {
        let body = Body::from_stream(futures_util::stream::pending::<Result<&str, std::io::Error>>());
        assert_eq!(hash_body(body, IDLE).await.unwrap_err().status, 408);
    }
}

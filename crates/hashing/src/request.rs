//! What a caller asks for, its identity, and how it travels through a queue.

use crate::{Algorithm, Argon2id, HashError};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One hash to compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    algorithm: Algorithm,
    argon2id: Option<Argon2id>,
    input: Vec<u8>,
}

/// What makes two requests the same: the algorithm, its parameters and the input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// A name of 64 hex digits: equal only for equal requests.
    pub key: String,
    /// SHA-256 of the input, hex: all that is kept of it.
    pub input_sha256: String,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The hash as it is shown: hex, or a PHC string for argon2id.
    pub text: String,
    /// Its bytes.
    pub digest: Vec<u8>,
}

/// The part of a request besides its input, as it lies in a queue.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    algorithm: Algorithm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    argon2id: Option<Argon2id>,
}

impl Request {
    /// A request; argon2id without parameters gets the defaults with a random salt, so that no two are the same.
    ///
    /// # Errors
    /// [`HashError::NoParameters`] for parameters of an algorithm that has none, and what [`Argon2id::check`] refuses.
    pub fn new(algorithm: Algorithm, argon2id: Option<Argon2id>, input: Vec<u8>) -> Result<Request, HashError> {
        let argon2id = match (algorithm, argon2id) {
            (Algorithm::Argon2id, given) => Some(given.unwrap_or_else(Argon2id::with_random_salt)),
            (_, Some(_)) => return Err(HashError::NoParameters(algorithm)),
            (_, None) => None,
        };
        if let Some(parameters) = &argon2id {
            parameters.check()?;
        }
        Ok(Request { algorithm, argon2id, input })
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What makes it the same as another.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let input = Sha256::digest(&self.input);
        let parameters = self.argon2id.as_ref().map(Argon2id::identity).unwrap_or_default();
        // The name has no space, and the input's digest a fixed length: no two requests give the same text.
        let text = format!("cairn hash {} {parameters} {}", self.algorithm, HEXLOWER.encode(&input));
        Identity { key: HEXLOWER.encode(&Sha256::digest(text)), input_sha256: HEXLOWER.encode(&input) }
    }

    /// Computes it. Takes as long as the algorithm does: not for an event loop.
    ///
    /// # Errors
    /// Parameters that [`Request::new`] would not have taken.
    pub fn compute(&self) -> Result<Output, HashError> {
        match (self.algorithm.digest(&self.input), &self.argon2id) {
            (Some(digest), _) => Ok(Output { text: HEXLOWER.encode(&digest), digest }),
            (None, Some(parameters)) => {
                let (text, digest) = parameters.hash(&self.input)?;
                Ok(Output { text, digest })
            }
            (None, None) => Err(HashError::Argon2("no parameters".into())),
        }
    }

    /// The request for a queue: parameters as JSON, and the input.
    #[must_use]
    pub fn into_parts(self) -> (serde_json::Value, Vec<u8>) {
        let envelope = Envelope { algorithm: self.algorithm, argon2id: self.argon2id };
        (serde_json::to_value(envelope).expect("names and numbers are JSON"), self.input)
    }

    /// The request that [`Request::into_parts`] took apart.
    ///
    /// # Errors
    /// [`HashError::Malformed`] for JSON that is not one, and what [`Request::new`] refuses.
    pub fn from_parts(envelope: &serde_json::Value, input: Vec<u8>) -> Result<Request, HashError> {
        let envelope = Envelope::deserialize(envelope).map_err(|error| HashError::Malformed(error.to_string()))?;
        Request::new(envelope.algorithm, envelope.argon2id, input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(algorithm: Algorithm, input: &[u8]) -> Request {
        Request::new(algorithm, None, input.to_vec()).unwrap()
    }

    #[test]
    fn requests_are_the_same_only_where_everything_is() {
        let one = request(Algorithm::Sha256, b"a").identity();
        assert_eq!(one, request(Algorithm::Sha256, b"a").identity());
        assert_ne!(one.key, request(Algorithm::Sha512, b"a").identity().key);
        assert_ne!(one.key, request(Algorithm::Sha256, b"b").identity().key);
        assert_eq!(one.input_sha256, request(Algorithm::Sha256, b"a").compute().unwrap().text);
        let salted = |salt: &[u8]| Argon2id { salt: salt.to_vec(), ..Argon2id::with_random_salt() };
        let with = |parameters| Request::new(Algorithm::Argon2id, Some(parameters), Vec::new()).unwrap().identity();
        assert_eq!(with(salted(b"12345678")), with(salted(b"12345678")));
        assert_ne!(with(salted(b"12345678")), with(salted(b"12345679")));
        assert_ne!(with(salted(b"12345678")), with(Argon2id { iterations: 3, ..salted(b"12345678") }));
        let unsalted = || Request::new(Algorithm::Argon2id, None, Vec::new()).unwrap().identity();
        assert_ne!(unsalted(), unsalted(), "a random salt");
    }

    #[test]
    fn parameters_belong_to_argon2id_alone() {
        let error = Request::new(Algorithm::Md5, Some(Argon2id::with_random_salt()), Vec::new()).unwrap_err();
        assert_eq!(error, HashError::NoParameters(Algorithm::Md5));
        let envelope = serde_json::json!({"algorithm": "argon2id", "argon2id": {"memory_kib": 1 << 20, "iterations": 1,
            "parallelism": 1, "length": 32, "salt": "0011223344556677"}});
        let error = Request::from_parts(&envelope, Vec::new()).unwrap_err();
        assert!(matches!(error, HashError::OutOfBounds { name: "memory_kib", .. }), "{error}");
    }

    proptest! {
        #[test]
        fn a_request_comes_out_of_a_queue_as_it_went_in(at in 0..6usize, input: Vec<u8>) {
            let request = Request::new(Algorithm::ALL[at], None, input).unwrap();
            let (envelope, input) = request.clone().into_parts();
            prop_assert_eq!(Request::from_parts(&envelope, input), Ok(request));
        }
    }
}

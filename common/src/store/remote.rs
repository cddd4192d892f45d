//! Stores behind a network: S3 and what speaks like it, Google Cloud Storage, Azure. Credentials come from the usual
//! environment variables (`AWS_*`, `GOOGLE_*`, `AZURE_*`) and are never written anywhere. The archive may have its own:
//! variables that begin with `FULLTIME_ARCHIVE_` (`FULLTIME_ARCHIVE_AWS_ACCESS_KEY_ID`, …) count for it alone.

use std::{sync::Arc, time::Duration};

use object_store::{
    ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut},
    prefix::PrefixStore,
};
use url::Url;

/// Whose credentials a store is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Archive,
    Results,
}

const OF_THE_ARCHIVE: &str = "FULLTIME_ARCHIVE_";

/// What says who we are: an archive with credentials of its own takes none of these from the common ones.
const IDENTITY: [&str; 3] = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];

pub(super) fn open(url: &Url, settings: Vec<(String, String)>) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    // reqwest is built without a TLS provider of its own; installing ours twice is harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if !matches!(url.scheme(), "s3" | "s3a") {
        let (store, path) = object_store::parse_url_opts(url, settings)?;
        return Ok(Arc::new(PrefixStore::new(store, path)));
    }
    let retry = RetryConfig { max_retries: 6, retry_timeout: Duration::from_secs(60), ..Default::default() };
    let mut builder = AmazonS3Builder::new().with_url(url.as_str()).with_retry(retry);
    for (key, value) in settings {
        if let Ok(key) = key.parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let store = builder.with_conditional_put(S3ConditionalPut::ETagMatch).build()?;
    Ok(Arc::new(PrefixStore::new(store, url.path().trim_matches('/'))))
}

/// The process's environment as settings of a store.
pub(super) fn environment(role: Role) -> Vec<(String, String)> {
    settings(std::env::vars(), role)
}

/// An environment as settings of a store, in lower case.
fn settings(environment: impl Iterator<Item = (String, String)>, role: Role) -> Vec<(String, String)> {
    let (own, common): (Vec<_>, Vec<_>) = environment.partition(|(key, _)| key.starts_with(OF_THE_ARCHIVE));
    let lower = |(key, value): (String, String)| (key.to_ascii_lowercase(), value);
    let common = common.into_iter().map(lower);
    if role == Role::Results || own.is_empty() {
        return common.filter(|(key, _)| is_cloud(key)).collect();
    }
    let own: Vec<_> =
        own.into_iter().map(|(key, value)| lower((key[OF_THE_ARCHIVE.len()..].to_owned(), value))).collect();
    let identified = own.iter().any(|(key, _)| IDENTITY.contains(&key.as_str()));
    let kept = common.filter(|(key, _)| is_cloud(key) && !(identified && IDENTITY.contains(&key.as_str())));
    // Of two settings of one key the later one counts.
    kept.chain(own).collect()
}

fn is_cloud(key: &str) -> bool {
    ["aws_", "google_", "azure_"].iter().any(|prefix| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::store::{Store, StoreError};

    #[test]
    fn the_archive_may_have_credentials_of_its_own() {
        let environment = [
            ("AWS_ACCESS_KEY_ID", "writer"),
            ("AWS_SESSION_TOKEN", "token"),
            ("AWS_REGION", "eu-central-1"),
            ("FULLTIME_ARCHIVE_AWS_ACCESS_KEY_ID", "reader"),
            ("HOME", "/root"),
        ];
        let environment = || environment.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        let pairs = |role| settings(environment(), role);
        let text = |pairs: Vec<(String, String)>| {
            pairs.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
        };
        let results = "aws_access_key_id=writer aws_session_token=token aws_region=eu-central-1";
        assert_eq!(text(pairs(Role::Results)), results);
        assert_eq!(text(pairs(Role::Archive)), "aws_region=eu-central-1 aws_access_key_id=reader");
        let common = environment().filter(|(key, _)| !key.starts_with(OF_THE_ARCHIVE));
        assert_eq!(text(settings(common, Role::Archive)), results, "without its own it has the common ones");
    }

    /// Says yes to every request, also to the second one that was to create the same object.
    async fn careless_server() -> (String, tokio::task::JoinHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                loop {
                    let read = stream.read(&mut buffer).await.unwrap_or(0);
                    request.extend_from_slice(&buffer[..read]);
                    let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else {
                        if read == 0 { break } else { continue }
                    };
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    if read == 0 || body.len() >= length.and_then(|text| text.parse().ok()).unwrap_or(0) {
                        break;
                    }
                }
                let answer = "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (format!("http://{address}"), serving)
    }

    #[tokio::test]
    async fn a_store_that_overwrites_what_should_be_created_once_is_refused() {
        let (endpoint, serving) = careless_server().await;
        let options = [
            ("aws_endpoint", endpoint.as_str()),
            ("aws_allow_http", "true"),
            ("aws_region", "us-east-1"),
            ("aws_access_key_id", "k"),
            ("aws_secret_access_key", "s"),
        ];
        let store = Store::open_with("s3://b", options).unwrap();
        let refused = store.probe_writable().await;
        assert!(matches!(refused, Err(StoreError::NoConditionalPut { .. })), "{refused:?}");
        serving.abort();
    }
}

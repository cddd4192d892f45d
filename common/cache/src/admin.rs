//! What `fulltime cache` does: counts our own entries in a Redis that others may use, too, and removes them. Keys are found
//! by SCAN, which holds nobody up, and only those that read exactly as ours count.

use std::{collections::BTreeMap, time::Duration};

use redis::aio::MultiplexedConnection;

use crate::{CacheError, Key, Kind, kind::PREFIX, shared::client};

/// Keys asked for at once.
const STEP: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(5);

/// Entries and their bytes, as they lie there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    pub entries: u64,
    pub bytes: u64,
}

/// What there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    pub place: String,
    pub kinds: BTreeMap<Kind, Amount>,
    /// Keys that begin as ours do and are none: nothing of ours touches them.
    pub foreign: u64,
    /// Memory of the whole server, all its users together, and its bound (0: none).
    pub memory: u64,
    pub memory_limit: u64,
    /// Entries that the server dropped for want of memory, and lookups that it answered and did not, since it runs.
    pub evicted: u64,
    pub hits: u64,
    pub misses: u64,
}

/// A connection of its own.
pub struct Admin {
    connection: MultiplexedConnection,
    place: String,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Admin {
    /// # Errors
    /// A URL that does not read, a Redis that does not answer.
    pub async fn connect(url: &str) -> Result<Self, CacheError> {
        let (client, place) = client(url)?;
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        let connection = match tokio::time::timeout(PATIENCE * 2, connecting).await {
            Ok(connection) => {
                connection.map_err(|source| CacheError::Redis { action: "connect to", place: place.clone(), source })?
            }
            Err(_) => return Err(CacheError::Silent { place }),
        };
        Ok(Self { connection, place })
    }

    fn failed(&self, action: &'static str) -> impl Fn(redis::RedisError) -> CacheError {
        let place = self.place.clone();
        move |source| CacheError::Redis { action, place: place.clone(), source }
    }

    /// # Errors
    /// Redis fails meanwhile.
    pub async fn stats(&mut self) -> Result<Stats, CacheError> {
        let info: String = redis::cmd("INFO").query_async(&mut self.connection).await.map_err(self.failed("ask"))?;
        let figure = |name: &str| {
            let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
        };
        let mut stats = Stats {
            place: self.place.clone(),
            memory: figure("used_memory"),
            memory_limit: figure("maxmemory"),
            evicted: figure("evicted_keys"),
            hits: figure("keyspace_hits"),
            misses: figure("keyspace_misses"),
            ..Stats::default()
        };
        self.each(None, |kind, amount| add(&mut stats.kinds, kind, amount), &mut stats.foreign, false).await?;
        Ok(stats)
    }

    /// Removes our entries, those of one kind or all; `dry`: only counts them.
    ///
    /// # Errors
    /// Redis fails meanwhile; what was removed before stays so.
    pub async fn clear(&mut self, kind: Option<Kind>, dry: bool) -> Result<BTreeMap<Kind, Amount>, CacheError> {
        let (mut cleared, mut foreign) = (BTreeMap::new(), 0);
        self.each(kind, |kind, amount| add(&mut cleared, kind, amount), &mut foreign, !dry).await?;
        Ok(cleared)
    }

    /// Every entry once: SCAN may name a key twice, and what is gone between two steps counts for nothing.
    async fn each(
        &mut self,
        kind: Option<Kind>,
        mut seen: impl FnMut(Kind, Amount),
        foreign: &mut u64,
        remove: bool,
    ) -> Result<(), CacheError> {
        let pattern = kind.map_or_else(|| format!("{PREFIX}:*"), |kind| format!("{PREFIX}:{kind}:*"));
        let (mut cursor, mut known) = (0_u64, std::collections::HashSet::new());
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(STEP);
            let (next, keys): (u64, Vec<Vec<u8>>) =
                scan.query_async(&mut self.connection).await.map_err(self.failed("list entries of"))?;
            let keys: Vec<Vec<u8>> = keys.into_iter().filter(|key| known.insert(key.clone())).collect();
            let ours = |key: &Vec<u8>| str::from_utf8(key).ok().and_then(Key::parse);
            let (mine, others): (Vec<_>, Vec<_>) = keys.iter().map(ours).partition(Option::is_some);
            *foreign += others.len() as u64;
            let mine: Vec<Key> = mine.into_iter().flatten().collect();
            if !mine.is_empty() {
                let mut sizes = redis::pipe();
                for key in &mine {
                    sizes.cmd("STRLEN").arg(key.to_string());
                }
                let sizes: Vec<u64> =
                    sizes.query_async(&mut self.connection).await.map_err(self.failed("measure entries of"))?;
                for (key, bytes) in mine.iter().zip(sizes) {
                    // An entry is never empty: this one has just run out.
                    if bytes > 0 {
                        seen(key.kind, Amount { entries: 1, bytes });
                    }
                }
                if remove {
                    let mut unlink = redis::cmd("UNLINK");
                    for key in &mine {
                        unlink.arg(key.to_string());
                    }
                    let _: u64 =
                        unlink.query_async(&mut self.connection).await.map_err(self.failed("remove entries of"))?;
                }
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}

fn add(kinds: &mut BTreeMap<Kind, Amount>, kind: Kind, amount: Amount) {
    let sum = kinds.entry(kind).or_default();
    sum.entries += amount.entries;
    sum.bytes += amount.bytes;
}

//! `fulltime cache`: what workers keep in Redis, counted or removed. Keys of others in the same Redis are never touched.

use std::collections::BTreeMap;

use fulltime_cache::{Admin, Amount, Kind, Stats};
use fulltime_common::{Exit, error::Failure};
use serde_json::{Value, json};

use crate::{
    args::{CacheArgs, CacheClearArgs, CacheCommand, CacheStatsArgs},
    text::{bytes, count, plural, table},
};

/// # Errors
/// A Redis that cannot be reached, or fails meanwhile.
pub async fn run(args: CacheArgs) -> Result<Exit, Failure> {
    match args.command {
        CacheCommand::Stats(args) => stats(args).await,
        CacheCommand::Clear(args) => clear(args).await,
    }
}

async fn stats(args: CacheStatsArgs) -> Result<Exit, Failure> {
    let stats = Admin::connect(&args.redis.redis).await?.stats().await?;
    if args.json {
        let Stats { place, kinds, foreign, memory, memory_limit, evicted, hits, misses } = &stats;
        let server = json!({
            "memory_bytes": memory, "memory_limit_bytes": memory_limit, "evicted": evicted, "hits": hits, "misses": misses,
        });
        println!(
            "{}",
            json!({ "redis": place, "kinds": amounts(kinds), "foreign": foreign, "server": server, "exit": 0 })
        );
    } else {
        print!("{}", rows(&stats.kinds));
        println!("Redis at {}, all its users together: {}", stats.place, server(&stats));
    }
    Ok(Exit::Ok)
}

async fn clear(args: CacheClearArgs) -> Result<Exit, Failure> {
    let cleared = Admin::connect(&args.redis.redis).await?.clear(args.kind, args.dry_run).await?;
    if args.json {
        println!("{}", json!({ "dry_run": args.dry_run, "kinds": amounts(&cleared), "exit": 0 }));
    } else {
        print!("{}", rows(&cleared));
        println!("{}", if args.dry_run { "would be removed" } else { "removed" });
    }
    Ok(Exit::Ok)
}

fn amounts(kinds: &BTreeMap<Kind, Amount>) -> Value {
    let one = |(kind, Amount { entries, bytes }): (&Kind, &Amount)| {
        (kind.name().to_owned(), json!({ "entries": entries, "bytes": bytes }))
    };
    kinds.iter().map(one).collect::<serde_json::Map<_, _>>().into()
}

fn rows(kinds: &BTreeMap<Kind, Amount>) -> String {
    let row = |name: &str, amount: Amount| vec![name.to_owned(), count(amount.entries), bytes(amount.bytes)];
    let sum = kinds.values().fold(Amount::default(), |sum, amount| Amount {
        entries: sum.entries + amount.entries,
        bytes: sum.bytes + amount.bytes,
    });
    let rows = kinds.iter().map(|(kind, amount)| row(kind.name(), *amount)).chain([row("all", sum)]);
    table(&["kind", "entries", "bytes"].map(str::to_owned), &rows.collect::<Vec<_>>()) + "\n"
}

fn server(stats: &Stats) -> String {
    let limit = match stats.memory_limit {
        0 => "without a limit".to_owned(),
        limit => format!("of {}", bytes(limit)),
    };
    let answered = match stats.hits + stats.misses {
        0 => "nothing looked up yet".to_owned(),
        all => format!("{} of {} answered", count(stats.hits), plural(all, "lookup")),
    };
    format!("{} {limit}, {answered}, {} evicted", bytes(stats.memory), count(stats.evicted))
}

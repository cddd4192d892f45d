//! The pulls of all lanes of a process, asked together. In rounds: for every line-up that somebody wants, the more urgent
//! first, one request for as many tasks as are wanted, then the next; what comes is dealt out in the order of asking.
//! Where a line-up has nothing, one request for one task stays there and waits: as long as it is unanswered, the line-up
//! is empty and need not be asked. So a thousand idle lanes cost no more than one, and no delivery arrives that was not
//! asked for.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_nats::{Message, jetstream};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tracing::warn;

use super::{
    AckLease, QueueError,
    acker::Acker,
    ask::{Answer, Ask, GoneError, Patience, hand_back},
    broker,
    streams::{Lineup, Streams, TASKS},
};
use crate::{
    queue::Delivery,
    wire::{self, Band, Pool, Task},
};

/// How long a request waits at an empty line-up. It cannot be taken back: a task that comes when no lane wants it any
/// more is handed back, so this is short.
const STAND: Duration = Duration::from_secs(2);
/// Tasks in one request.
const BATCH: usize = 1000;

type Pulled = Result<Vec<Delivery>, QueueError>;

/// The way to the puller of a connection. Ends it when dropped.
#[derive(Debug)]
pub(super) struct Puller {
    waits: mpsc::UnboundedSender<Wait>,
}

impl Puller {
    pub fn start(streams: Arc<Streams>, acker: Acker) -> Self {
        let (waits, incoming) = mpsc::unbounded_channel();
        let (hear, heard) = mpsc::unbounded_channel();
        let desk = Desk { streams, acker, waits: Vec::new(), standing: BTreeSet::new(), made: BTreeSet::new(), hear };
        tokio::spawn(desk.run(incoming, heard));
        Self { waits }
    }

    pub async fn pull(&self, pools: &[Pool], most: usize, wait: Duration) -> Pulled {
        if most == 0 {
            return Ok(Vec::new());
        }
        let (answer, pulled) = oneshot::channel();
        let until = Instant::now() + wait;
        let wait = Wait { pools: pools.to_vec(), most, until, impatient: wait.is_zero(), found: Vec::new(), answer };
        self.waits.send(wait).map_err(|_| GoneError::Closed)?;
        let mut pulled = Pulling(pulled);
        (&mut pulled.0).await.unwrap_or_else(|_| Err(GoneError::Closed.into()))
    }
}

/// A pull that may be given up between the answer and its being read.
struct Pulling(oneshot::Receiver<Pulled>);

impl Drop for Pulling {
    fn drop(&mut self) {
        self.0.close();
        if let Ok(Ok(deliveries)) = self.0.try_recv() {
            give_back(deliveries);
        }
    }
}

fn give_back(deliveries: Vec<Delivery>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    for delivery in deliveries {
        // Where that fails, the lease runs out.
        runtime.spawn(async move { delivery.give_back(Duration::ZERO).await.is_ok() });
    }
}

/// One pull.
#[derive(Debug)]
struct Wait {
    pools: Vec<Pool>,
    most: usize,
    until: Instant,
    /// Came for what is there now, and so does not take a request that stands for the answer.
    impatient: bool,
    found: Vec<Delivery>,
    answer: oneshot::Sender<Pulled>,
}

impl Wait {
    fn lacks(&self) -> usize {
        self.most.saturating_sub(self.found.len())
    }

    fn answer(self) {
        if let Err(Ok(deliveries)) = self.answer.send(Ok(self.found)) {
            give_back(deliveries);
        }
    }
}

/// What became of a request that stood at an empty line-up.
struct Heard {
    lineup: Lineup,
    answer: Answer,
}

struct Desk {
    streams: Arc<Streams>,
    acker: Acker,
    /// In the order of asking.
    waits: Vec<Wait>,
    /// Line-ups at which a request stands unanswered: they are empty.
    standing: BTreeSet<Lineup>,
    /// Line-ups whose consumer has been there.
    made: BTreeSet<Lineup>,
    hear: mpsc::UnboundedSender<Heard>,
}

impl Desk {
    async fn run(mut self, mut incoming: mpsc::UnboundedReceiver<Wait>, mut heard: mpsc::UnboundedReceiver<Heard>) {
        loop {
            let until = self.waits.iter().map(|wait| wait.until).min();
            let deadline = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                wait = incoming.recv() => match wait {
                    Some(wait) => self.waits.push(wait),
                    None => return,
                },
                Some(heard) = heard.recv() => self.hear(heard).await,
                () = deadline => {}
            }
            // Whoever else has come meanwhile shares the round.
            while let Ok(wait) = incoming.try_recv() {
                self.waits.push(wait);
            }
            while let Ok(heard) = heard.try_recv() {
                self.hear(heard).await;
            }
            if let Err(error) = self.round().await {
                self.fail(error);
            }
        }
    }

    /// Asks for everything that is wanted and not known to be missing, and answers who has something or came to the end
    /// of the wait.
    async fn round(&mut self) -> Result<(), QueueError> {
        self.waits.retain(|wait| !wait.answer.is_closed());
        for band in Band::ALL {
            let places = self.waits.iter().map(|wait| wait.pools.len()).max().unwrap_or(0);
            for place in 0..places {
                let pools: BTreeSet<Pool> = self
                    .waits
                    .iter()
                    .filter(|wait| wait.lacks() > 0)
                    .filter_map(|w| w.pools.get(place))
                    .cloned()
                    .collect();
                for pool in pools {
                    self.look(&Lineup { band, pool }, place).await?;
                }
            }
        }
        let now = Instant::now();
        let (over, waiting) =
            std::mem::take(&mut self.waits).into_iter().partition(|wait| !wait.found.is_empty() || wait.until <= now);
        self.waits = waiting;
        Vec::into_iter(over).for_each(Wait::answer);
        let wanted: BTreeSet<Lineup> = self.waits.iter().flat_map(|wait| lineups(&wait.pools)).collect();
        for lineup in wanted {
            self.stand(&lineup).await?;
        }
        Ok(())
    }

    /// Asks a line-up for as many tasks as those want for whom it is next.
    async fn look(&mut self, lineup: &Lineup, place: usize) -> Result<(), QueueError> {
        loop {
            let asking = |wait: &&Wait| wait.lacks() > 0 && wait.pools.get(place) == Some(&lineup.pool);
            let wanted: usize = self.waits.iter().filter(asking).map(Wait::lacks).sum();
            let known_empty = self.standing.contains(lineup) && !self.waits.iter().filter(asking).any(|w| w.impatient);
            if wanted == 0 || known_empty {
                return Ok(());
            }
            let batch = wanted.min(BATCH);
            let messages = match self.ask(lineup, batch).await {
                Ok(messages) => messages,
                // The consumer went with the broker's disk, or has never been: once more with a new one.
                Err(_) if self.made.remove(lineup) => self.ask(lineup, batch).await?,
                Err(error) => return Err(error),
            };
            let came = messages.len();
            for message in messages {
                self.deal(message, |wait| wait.pools.get(place) == Some(&lineup.pool)).await;
            }
            if came < batch {
                return Ok(());
            }
        }
    }

    async fn ask(&mut self, lineup: &Lineup, batch: usize) -> Result<Vec<Message>, QueueError> {
        self.make(lineup).await?;
        let mut ask = Ask::send(&self.streams.client, lineup, batch, Patience::Look).await?;
        let mut messages = Vec::new();
        loop {
            match ask.next().await {
                Answer::Message(message) => messages.push(message),
                Answer::Empty => return Ok(messages),
                // Half an answer is one.
                Answer::Gone(_) if !messages.is_empty() => return Ok(messages),
                Answer::Gone(error) => return Err(error.into()),
            }
        }
    }

    /// Leaves a request at an empty line-up.
    async fn stand(&mut self, lineup: &Lineup) -> Result<(), QueueError> {
        if self.standing.contains(lineup) {
            return Ok(());
        }
        self.make(lineup).await?;
        let mut ask = Ask::send(&self.streams.client, lineup, 1, Patience::Wait(STAND)).await?;
        self.standing.insert(lineup.clone());
        let (hear, lineup, client) = (self.hear.clone(), lineup.clone(), self.streams.client.clone());
        tokio::spawn(async move {
            let answer = ask.next().await;
            if let Err(mpsc::error::SendError(Heard { answer: Answer::Message(message), .. })) =
                hear.send(Heard { lineup, answer })
            {
                hand_back(&client, &message).await;
            }
        });
        Ok(())
    }

    async fn make(&mut self, lineup: &Lineup) -> Result<(), QueueError> {
        if !self.made.contains(lineup) {
            self.streams.consumer(lineup).await?;
            self.made.insert(lineup.clone());
        }
        Ok(())
    }

    async fn hear(&mut self, Heard { lineup, answer }: Heard) {
        self.standing.remove(&lineup);
        match answer {
            Answer::Message(message) => self.deal(message, |wait| wait.pools.contains(&lineup.pool)).await,
            // Still empty: stand there again, if anybody waits. What goes wrong with that, the next round sees.
            Answer::Empty if self.waits.iter().any(|wait| wait.pools.contains(&lineup.pool)) => {
                let _ = self.stand(&lineup).await;
            }
            Answer::Empty => {}
            Answer::Gone(_) => {
                self.made.remove(&lineup);
            }
        }
    }

    /// Gives a message to the first who wants it, or back.
    async fn deal(&mut self, message: Message, wants: impl Fn(&Wait) -> bool) {
        let Some(at) = self.waits.iter().position(|w| w.lacks() > 0 && !w.answer.is_closed() && wants(w)) else {
            return hand_back(&self.streams.client, &message).await;
        };
        if let Some(delivery) = self.delivery(message) {
            self.waits[at].found.push(delivery);
        }
    }

    fn delivery(&self, message: Message) -> Option<Delivery> {
        let message = jetstream::Message { message, context: self.streams.context.clone() };
        match wire::decode::<Task>(&message.payload) {
            Ok(task) => {
                let delivered = message.info().map_or(1, |info| u64::try_from(info.delivered).unwrap_or(1));
                let lease = AckLease::of(&self.streams.client, &self.acker, &message);
                Some(Delivery::new(task, delivered, Box::new(lease)))
            }
            Err(error) => {
                warn!(%error, subject = %message.subject, "removing a task that this version cannot read");
                tokio::spawn(async move {
                    if let Err(error) = remove(&message).await {
                        warn!(error = crate::error::chain(&error), "could not remove it");
                    }
                });
                None
            }
        }
    }

    fn fail(&mut self, error: QueueError) {
        let error = Arc::new(error);
        for wait in std::mem::take(&mut self.waits) {
            // What has come before the trouble is worth more than the trouble.
            if wait.found.is_empty() {
                let _ = wait.answer.send(Err(broker("pull")(Arc::clone(&error))));
            } else {
                wait.answer();
            }
        }
    }
}

fn lineups(pools: &[Pool]) -> impl Iterator<Item = Lineup> {
    Band::ALL.into_iter().flat_map(|band| pools.iter().map(move |pool| Lineup { band, pool: pool.clone() }))
}

/// Terminates a message, which an advisory records, and deletes it by its sequence: a work queue would keep it.
async fn remove(message: &jetstream::Message) -> Result<(), QueueError> {
    let trouble = |source| QueueError::Broker { action: "remove an unreadable task", source };
    message.ack_with(jetstream::AckKind::Term).await.map_err(trouble)?;
    let sequence = message.info().map_err(trouble)?.stream_sequence;
    let stream = message.context.get_stream_no_info(TASKS).await.map_err(broker("remove an unreadable task"))?;
    stream.delete_message(sequence).await.map_err(broker("remove an unreadable task"))?;
    Ok(())
}

//! What a bus is: the same stories run against the one in memory, the faulty one without faults, and a real nats-server;
//! then what each promises beside that.

mod damage;
mod faults;
mod ground;
mod healing;
mod pace;
mod stories;

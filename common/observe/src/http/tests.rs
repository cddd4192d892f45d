use super::*;
use crate::metrics::{COORDINATOR, LEADING};

struct Echo;

impl Service for Echo {
    fn answer<'a>(&'a self, request: &'a Request) -> Pin<Box<dyn Future<Output = Response> + Send + 'a>> {
        Box::pin(async move { Response::text(200, request.body.clone()) })
    }
}

async fn ask(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn probes_and_metrics_are_served_beside_the_service() {
    let board = Board::new(COORDINATOR);
    board.set(&LEADING, &[], 1.0);
    let health = Health::new(Duration::from_secs(60));
    let server = Server::bind(Listen::At("127.0.0.1:0".parse().unwrap()), None).await.unwrap().unwrap();
    let serving = server.serve(board, health.clone(), Arc::new(Echo)).unwrap();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(ask(serving.address, &get("/livez")).await.starts_with("HTTP/1.1 200"));
    let unready = ask(serving.address, &get("/readyz")).await;
    assert!(unready.starts_with("HTTP/1.1 503") && unready.ends_with("it has just started\n"), "{unready}");
    health.beat(None);
    assert!(ask(serving.address, &get("/readyz?verbose")).await.starts_with("HTTP/1.1 200"));
    assert!(ask(serving.address, &get("/metrics")).await.contains("\nfulltime_leading 1.0\n"));
    let post = "POST /x HTTP/1.1\r\nHost: localhost\r\nX-Fulltime: 1\r\nContent-Length: 5\r\n\r\nhello";
    assert!(ask(serving.address, post).await.ends_with("\r\n\r\nhello"));
    assert!(ask(serving.address, "nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    let large = format!("GET / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", LARGEST + 1);
    assert!(ask(serving.address, &large).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn a_default_port_that_is_taken_gives_way_and_a_wanted_one_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let other = Server::bind(Listen::Default(address.port()), None).await.unwrap().unwrap();
    assert_ne!(other.listener.local_addr().unwrap().port(), address.port());
    let error = Server::bind(Listen::At(address), None).await.unwrap_err();
    assert!(matches!(error, HttpError::Bind { .. }), "{error}");
    assert!(Server::bind(Listen::Off, None).await.unwrap().is_none());
    assert_eq!("off".parse::<Listen>().unwrap(), Listen::Off);
    assert!("9870".parse::<Listen>().is_err());
}

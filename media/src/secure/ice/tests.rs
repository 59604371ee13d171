use super::super::Refusal;
use super::super::stun::tests::{CONTROLLED, UNHEARD_OF, USE_CANDIDATE, outcome, request};
use super::*;

const PASSWORD: &str = "the password of our side";
const SECOND: Duration = Duration::from_secs(1);

fn agent() -> Agent {
    Agent::new(Credentials::new("ours", PASSWORD, "theirs"))
}

fn remote(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn check(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    request("ours:theirs", PASSWORD, attributes)
}

fn answer(agent: &mut Agent, datagram: &[u8], port: u16, now: Now) -> (bool, Option<u16>) {
    outcome(&agent.receive(datagram, remote(port), now).unwrap().unwrap())
}

#[test]
fn an_authentic_check_opens_the_way_and_a_nomination_moves_it() {
    let mut agent = agent();
    assert_eq!(agent.destination(SECOND), None);
    assert_eq!(answer(&mut agent, &check(&[]), 1, SECOND), (true, None));
    assert_eq!(agent.destination(SECOND), Some(remote(1)));
    assert_eq!(answer(&mut agent, &check(&[]), 2, SECOND), (true, None));
    assert_eq!(agent.destination(SECOND), Some(remote(1)));
    assert_eq!(answer(&mut agent, &check(&[USE_CANDIDATE]), 2, SECOND), (true, None));
    assert_eq!(agent.destination(SECOND), Some(remote(2)));
    assert!(agent.knows(remote(1), SECOND) && !agent.knows(remote(3), SECOND));
}

#[test]
fn nobody_else_sets_the_way() {
    let mut agent = agent();
    for (forged, code) in [
        (request("ours:theirs", "another password", &[USE_CANDIDATE]), 401),
        (request("ours:others", PASSWORD, &[USE_CANDIDATE]), 401),
        (check(&[USE_CANDIDATE, UNHEARD_OF]), 420),
        (check(&[USE_CANDIDATE, CONTROLLED]), 487),
    ] {
        assert_eq!(answer(&mut agent, &forged, 1, SECOND), (false, Some(code)));
        assert_eq!(agent.destination(SECOND), None);
    }
    let malformed = agent.receive(&[0; 20], remote(1), SECOND);
    assert_eq!(malformed.err(), Some(Refusal::Malformed));
}

#[test]
fn consent_ends_and_comes_back() {
    let mut agent = agent();
    answer(&mut agent, &check(&[USE_CANDIDATE]), 1, SECOND);
    assert_eq!(agent.destination(30 * SECOND), Some(remote(1)));
    assert_eq!(agent.destination(31 * SECOND), None);
    answer(&mut agent, &check(&[]), 1, 40 * SECOND);
    assert_eq!(agent.destination(69 * SECOND), Some(remote(1)));
}

#[test]
fn a_restart_asks_for_the_new_credentials_while_media_goes_on() {
    let mut agent = agent();
    answer(&mut agent, &check(&[USE_CANDIDATE]), 1, SECOND);
    agent.restart(Credentials::new("ours2", "another", "theirs2"));
    assert_eq!(agent.destination(SECOND), Some(remote(1)));
    assert_eq!(answer(&mut agent, &check(&[]), 1, SECOND), (false, Some(401)));
    let fresh = request("ours2:theirs2", "another", &[USE_CANDIDATE]);
    assert_eq!(answer(&mut agent, &fresh, 2, SECOND), (true, None));
    assert_eq!(agent.destination(SECOND), Some(remote(2)));
}

#[test]
fn many_paths_push_out_the_oldest() {
    let mut agent = agent();
    for port in 1..=5 {
        answer(&mut agent, &check(&[]), port, SECOND * port.into());
    }
    assert!(!agent.knows(remote(1), 5 * SECOND));
    assert!((2..=5).all(|port| agent.knows(remote(port), 5 * SECOND)));
}

#[test]
fn credentials_are_not_shown() {
    assert!(!format!("{:?}", agent()).contains("password"));
}

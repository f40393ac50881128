use idr_profile::access::{Claims, Limits, Subject};

fn unverified(claims: Claims) -> Subject {
    Subject::verified(claims, Limits::default())
}

fn main() {}

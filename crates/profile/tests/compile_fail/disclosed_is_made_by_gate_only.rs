use idr_profile::access::{AccessUnit, Disclosed, Permit};

fn forge(unit: AccessUnit, permit: Permit) -> Disclosed<String> {
    Disclosed { unit, payload: "another's report".to_owned(), permit }
}

fn main() {}

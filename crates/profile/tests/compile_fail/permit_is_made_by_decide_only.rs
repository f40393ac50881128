use idr_profile::access::{Basis, Operation, Permit, Rule};

fn main() {
    let _forged = Permit { basis: Basis::Own, rule: Rule::E5, unit: None, operation: Operation::Retrieve };
}

use idr_profile::access::Candidate;

fn field(candidate: Candidate<String>) -> String {
    candidate.payload
}

fn accessor(candidate: &Candidate<String>) -> &String {
    candidate.payload()
}

fn printed(candidate: &Candidate<String>) -> String {
    format!("{candidate:?}")
}

fn main() {}

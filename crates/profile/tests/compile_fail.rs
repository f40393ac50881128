//! What must not compile: nobody outside the decision makes a permit, and nobody reads what was not disclosed.

#[test]
fn permits_and_disclosures_cannot_be_forged() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}

# What has to pass before a change is merged; `.ci/run` does the same where there is no `just`.
check: fmt clippy test deny

fmt:
    cargo fmt --all --check

clippy:
    cargo clippy --workspace --all-targets --all-features -- -D warnings

test:
    cargo test

# Advisories, licences and security floors; needs cargo-deny and its database. The floors are tested without them too.
deny:
    cargo deny check

demo:
    cargo run --release -- demo

# Needs nightly and cargo-fuzz. FUZZ_SECONDS for each target, 60 if not said; `just fuzz core` for one.
fuzz *targets:
    fuzz/run {{targets}}

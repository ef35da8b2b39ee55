# What has to pass before a change is merged; `.ci/run` does the same where there is no `just`.
check: fmt clippy test deny

fmt:
    cargo fmt --all --check

clippy:
    cargo clippy --workspace --all-targets --all-features -- -D warnings

test:
    cargo test

# What `cargo test` leaves to CI because it takes minutes: the SDKs' own checks and packages, every language to every other, containers.
slow:
    SEEDS=100 cargo test --test simulation
    cargo test --test process --test sdk -- --ignored

# Advisories, licences and security floors; needs cargo-deny and its database. The floors are tested without them too.
deny:
    cargo deny check

demo:
    cargo run --release -- demo

# Needs nightly and cargo-fuzz. FUZZ_SECONDS for each target, 60 if not said; `just fuzz core` for one.
fuzz *targets:
    fuzz/run {{targets}}

# Thousands of seeds, or one with `just sim SEED=7`; `just sim FIRST_SEED=1000 SEEDS=5000` for others.
sim *settings:
    env {{settings}} cargo test --release --test simulation seeds -- --nocapture

# A scenario of one's own, or a large one that is kept.
scenario file="fixtures/scenarios/large/five_hundred.txt":
    SCENARIO={{file}} cargo test --release --test simulation scenario_of_a_file -- --ignored --nocapture

# Kills nodes at both ends while durable mail goes between them, and counts what is lost, repeated or out of order.
kills kills="200" mails="10000":
    KILLS={{kills}} MAILS={{mails}} cargo test --test process nothing_is_lost -- --nocapture

# Takes every guard of fixtures/guard_mutations.txt out of a copy, and sees some test fail.
guards:
    cargo test --test guard_mutations -- --ignored --nocapture

# Mutations of what is believed and refused; half an hour.
mutants *arguments:
    .ci/mutants {{arguments}}

# Line coverage of crates/core and crates/wire; installs LLVM's tools where they are missing.
coverage:
    .ci/coverage

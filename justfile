# Runs all checks that a change must pass before a merge; `.ci/run` does the same without `just`.
check: fmt clippy test deny

fmt:
    cargo fmt --all --check

clippy:
    cargo clippy --workspace --all-targets --all-features -- -D warnings

test:
    cargo test

# Runs tests that take minutes: the checks and packages of the SDKs, all pairs of languages, containers.
slow:
    SEEDS=100 cargo test --test simulation
    cargo test --test process --test sdk -- --ignored
    cargo test --test simulation five_hundred -- --ignored --nocapture

# Checks advisories, licences and minimum versions; needs cargo-deny and its database. `cargo test` also
# checks the minimum versions.
deny:
    cargo deny check

demo:
    cargo run --release -- demo

# Runs the fuzzer; needs nightly and cargo-fuzz. FUZZ_SECONDS per target (default 60); `just fuzz core`
# runs one target.
fuzz *targets:
    fuzz/run {{targets}}

# Simulates thousands of seeds; `just sim SEED=7` runs one, `just sim FIRST_SEED=1000 SEEDS=5000` others.
sim *settings:
    env {{settings}} cargo test --release --test simulation seeds -- --nocapture

# Simulates a scenario from a file.
scenario file="fixtures/scenarios/large/five_hundred.txt":
    SCENARIO={{file}} cargo test --release --test simulation scenario_of_a_file -- --ignored --nocapture

# Kills sender and recipient during durable delivery; counts lost, repeated and reordered messages.
kills kills="200" mails="10000":
    KILLS={{kills}} MAILS={{mails}} cargo test --test process no_accepted_message -- --nocapture

# Removes each guard of fixtures/guard_mutations.txt from a copy and expects a test to fail.
guards:
    cargo test --test guard_mutations -- --ignored --nocapture

# Runs cargo-mutants on the verification code; takes half an hour.
mutants *arguments:
    .ci/mutants {{arguments}}

# Measures the line coverage of crates/core and crates/wire; installs missing LLVM tools.
coverage:
    .ci/coverage

# The generator: one static binary in an image without a shell. Builds for the platform it runs on.
# The base images are named by tag and digest: the digest counts. Renovate keeps both up to date.
FROM rust:1.95-alpine@sha256:606fd313a0f49743ee2a7bd49a0914bab7deedb12791f3a846a34a4711db7ed2 AS build
RUN apk add --no-cache musl-dev
# Writes the list of crates into the binary, where scanners find it: a static binary has no other.
RUN cargo install --locked cargo-auditable@0.7.7
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo auditable build --locked --release -p image-pull-secrets-generator && \
    cp target/release/image-pull-secrets-generator / && \
    # Static: the loader finds nothing to load.
    ! ldd /image-pull-secrets-generator 2>/dev/null | grep -q '=>' && \
    /image-pull-secrets-generator --version

FROM gcr.io/distroless/static-debian12:nonroot@sha256:d093aa3e30dbadd3efe1310db061a14da60299baff8450a17fe0ccc514a16639
COPY --from=build /image-pull-secrets-generator /image-pull-secrets-generator
USER 65532:65532
ENTRYPOINT ["/image-pull-secrets-generator"]
CMD ["run"]

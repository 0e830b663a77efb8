# The generator: one static binary in an image without a shell. Builds for the platform it runs on.
# The base images are named by tag; Renovate pins their digests (docker:pinDigests in renovate.json) and keeps them up to date.
FROM rust:1.95-alpine AS build
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

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /image-pull-secrets-generator /image-pull-secrets-generator
USER 65532:65532
ENTRYPOINT ["/image-pull-secrets-generator"]
CMD ["run"]

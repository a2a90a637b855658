# The image for who has Docker or Buildah, and no Rust: `docker build --tag opflex-peerstatus .`
# `make image` makes the same from this machine's compiler and no base at all (image/Dockerfile).
FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN make image-root

# No shell and no libc: authorities, time zones and the user `nonroot` are all that it adds to the binary.
FROM gcr.io/distroless/static-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
COPY --from=build /src/target/image/root/ /
LABEL org.opencontainers.image.title="opflex-peerstatus" \
      org.opencontainers.image.description="Tells clients in any language, over gRPC, what happens to OpFlex peer connections" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
ENV PATH=/usr/bin
USER 65532:65532
EXPOSE 50051 9613
ENTRYPOINT ["/usr/bin/peerstatus"]
CMD ["serve"]

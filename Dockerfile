# syntax=docker/dockerfile:1

# The same release as the toolchain line of go.mod. The platform is that of the builder: Go compiles for the others.
FROM --platform=$BUILDPLATFORM golang:1.26.11 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
# With .git, where the version comes from. In a worktree, .git is somewhere else: build from a clone.
COPY . .
ARG TARGETOS TARGETARCH
# The binary holds no paths of the build and needs no C library: the same source built with the same Go gives the same
# bytes. .ci/release builds it in the same way.
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
  go build -trimpath -ldflags="-s -w" -o /mesh-gateway ./cmd/mesh-gateway

# The program, its licences and the certificates that it trusts: no shell, no packages.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY LICENSE NOTICE THIRD_PARTY_LICENSES /licenses/
COPY --from=build /mesh-gateway /mesh-gateway
# A number, so that Kubernetes can check runAsNonRoot.
USER 65532:65532
EXPOSE 8080
# For a gateway with TLS, set MESH_GATEWAY_HEALTHCHECK_URL to https://127.0.0.1:PORT/healthz.
HEALTHCHECK --interval=10s --timeout=3s --start-period=2s CMD ["/mesh-gateway", "healthcheck"]
ENTRYPOINT ["/mesh-gateway"]
CMD ["serve"]

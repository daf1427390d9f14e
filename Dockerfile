# syntax=docker/dockerfile:1

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /mesh-gateway ./cmd/mesh-gateway

# Nothing but the program and the roots it trusts: no shell, no packages.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /mesh-gateway /mesh-gateway
# A number, so that Kubernetes' runAsNonRoot can check it.
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=2s CMD ["/mesh-gateway", "healthcheck"]
ENTRYPOINT ["/mesh-gateway"]
CMD ["serve"]

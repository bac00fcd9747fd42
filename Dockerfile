# Two images:
#
#   docker build --target modgate -t modgate .          serves modules, nothing else in it
#   docker build --target modgate-vcs -t modgate:vcs .  the same with go, git, ssh and hg,
#                                                       which fetch private modules
#
# Both run as a user without rights and need nothing writable but the volume
# and, for downloads while that is full, /tmp:
#
#   docker run --read-only --tmpfs /tmp --cap-drop ALL -p 127.0.0.1:8080:8080 -v modgate:/var/cache/modgate modgate
#
# There is no HEALTHCHECK: the first image has no program that could ask. Let
# what runs the container ask GET /healthz (alive) and GET /readyz (ready).

FROM --platform=$BUILDPLATFORM golang:1.26.8-alpine AS build
ARG TARGETOS TARGETARCH
# To build behind a proxy: --build-arg GOPROXY=https://modgate.corp.example
ARG GOPROXY
# What modgate version says: --build-arg VERSION=v1.2.3
ARG VERSION
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags="-s -w -X main.version=$VERSION" -o /out/modgate ./cmd/modgate
# A volume takes the owner of the directory that it covers.
RUN mkdir -p /out/cache

# Certificates of public authorities, a user and no shell.
FROM gcr.io/distroless/static-debian12:nonroot AS modgate
COPY --from=build /out/modgate /usr/bin/modgate
COPY --from=build --chown=65532:65532 /out/cache /var/cache/modgate
ENV MODGATE_LISTEN=:8080 MODGATE_CACHE_DIR=/var/cache/modgate
USER 65532:65532
VOLUME /var/cache/modgate
EXPOSE 8080
ENTRYPOINT ["/usr/bin/modgate"]
CMD ["serve"]

FROM golang:1.26.8-alpine AS modgate-vcs
RUN apk add --no-cache ca-certificates git mercurial openssh-client
COPY --from=build /out/modgate /usr/bin/modgate
COPY --from=build --chown=65532:65532 /out/cache /var/cache/modgate
# The image that the go command stands in must never fetch another one.
ENV MODGATE_LISTEN=:8080 MODGATE_CACHE_DIR=/var/cache/modgate GOTOOLCHAIN=local HOME=/var/cache/modgate
USER 65532:65532
VOLUME /var/cache/modgate
EXPOSE 8080
ENTRYPOINT ["/usr/bin/modgate"]
CMD ["serve"]

/* SPDX-License-Identifier: BSD-3-Clause */
/* What a console is carried to: makes the socket or the terminal, and removes it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "server/dev/console/carrier.h"

/* A socket that nobody serves any more is removed; anything else stays. */
static int clear_path(const struct sockaddr_un *to, struct vio_err *err)
{
	struct stat st;
	int fd, rc;

	if (lstat(to->sun_path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return vio_err_set(err, -EADDRINUSE, "%s is there and is not a socket",
				   to->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return vio_err_set(err, -errno, "a socket: %s", strerror(errno));
	rc = connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0 ? -errno : 0;
	close(fd);
	if (rc != -ECONNREFUSED)
		return vio_err_set(err, -EADDRINUSE, "%s is served by another program",
				   to->sun_path);
	unlink(to->sun_path);
	return 0;
}

static int endpoint_socket(struct vio_carrier *c, const char *path, struct vio_err *err)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int rc;

	if (strlen(path) >= sizeof(to.sun_path))
		return vio_err_set(err, -ENAMETOOLONG,
				   "%s: a socket's path has at most %zu characters", path,
				   sizeof(to.sun_path) - 1);
	strcpy(to.sun_path, path);
	rc = clear_path(&to, err);
	if (rc)
		return rc;
	c->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->listener < 0)
		return vio_err_set(err, -errno, "a socket: %s", strerror(errno));
	/* Its owner's alone, from the first moment on. */
	if (fchmod(c->listener, 0600) < 0 ||
	    bind(c->listener, (const struct sockaddr *)&to, sizeof(to)) < 0)
		return vio_err_set(err, -errno, "%s: %s", path, strerror(errno));
	c->linked = true;
	strcpy(c->path, path);
	if (chmod(path, 0600) < 0 || listen(c->listener, 4) < 0)
		return vio_err_set(err, -errno, "%s: %s", path, strerror(errno));
	return 0;
}

/* Raw, so that the guest's bytes and the person's arrive as they are. */
static int make_raw(const char *name)
{
	struct termios t;
	int fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return -errno;
	if (tcgetattr(fd, &t) < 0) {
		rc = -errno;
	} else {
		cfmakeraw(&t);
		rc = tcsetattr(fd, TCSANOW, &t) < 0 ? -errno : 0;
	}
	close(fd);
	return rc;
}

static int endpoint_pty(struct vio_carrier *c, const char *path, struct vio_err *err)
{
	char name[64];
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK), rc;

	c->client = fd;
	if (fd < 0 || grantpt(fd) < 0 || unlockpt(fd) < 0)
		return vio_err_set(err, -errno, "a pseudo-terminal: %s", strerror(errno));
	rc = ptsname_r(fd, name, sizeof(name));
	rc = rc ? -rc : make_raw(name);
	if (rc)
		return vio_err_set(err, rc, "a pseudo-terminal: %s", strerror(-rc));
	if (!*path) {
		strcpy(c->path, name);
		return 0;
	}
	if (strlen(path) >= sizeof(c->path))
		return vio_err_set(err, -ENAMETOOLONG, "%s: at most %zu characters", path,
				   sizeof(c->path) - 1);
	if (symlink(name, path) < 0)
		return vio_err_set(err, -errno, "%s: %s", path, strerror(errno));
	c->linked = true;
	strcpy(c->path, path);
	return 0;
}

int vio_carrier_endpoint(struct vio_carrier *c, const char *path, struct vio_err *err)
{
	return c->pty ? endpoint_pty(c, path, err) : endpoint_socket(c, path, err);
}

void vio_carrier_endpoint_close(struct vio_carrier *c)
{
	if (c->listener >= 0)
		close(c->listener);
	if (c->client >= 0)
		close(c->client);
	if (c->linked)
		unlink(c->path);
	c->listener = c->client = -1;
}

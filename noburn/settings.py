"""Settings, all from the environment.

| Variable | Meaning | Default |
|---|---|---|
| NOBURN_HOME | where embedded servers and secrets live | .noburn in the project |
| PORT, BASE_URL | where the web application listens, and its public address | 8420, http://127.0.0.1:PORT |
| NOBURN_SELF_URL | where the web application reaches its own gateway | http://127.0.0.1:PORT |
| DATABASE_URL, DATABASE_OWNER_URL, DATABASE_GATEWAY_URL | PostgreSQL as the three roles | embedded |
| REDIS_URL | Redis of the counters (redis://, rediss://, unix://, redis-cluster://, rediss-cluster://) | embedded |
| REDIS_GATEWAY_URL, REDIS_CONTROL_URL | the same Redis as the gateway's and the controller's users | REDIS_URL |
| BROKER_URL | Celery's broker | embedded |
| SECRET_KEY, NOBURN_PEPPER, NOBURN_SIGNING_KEYS, NOBURN_SIGNING_KID | secrets | made once in NOBURN_HOME |
| NOBURN_PEPPER_PREVIOUS | a second pepper by which API keys are found, during a rotation | none |
| NOBURN_ID_KEY | what ids of holds and runs are derived with; kept for ever | the older pepper |
| AUDIT_CHECKPOINTS_DIR | where signed checkpoints of the audit log are kept | NOBURN_HOME/audit |
| NOBURN_ENCRYPTION_KEYS | keys of what is stored encrypted, separated by commas | made once in NOBURN_HOME |
| EMAIL_URL, DEFAULT_FROM_EMAIL | how e-mail is sent, and from whom | printed by the worker, noburn@ the base URL's host |
| EMAIL_VERIFICATION | `mandatory` or `none`: whether a new address is confirmed | mandatory with EMAIL_URL |
| NOBURN_SIGNUP | `first`, `open` or `closed`: until when strangers may sign up and make tenants | first |
| TRUSTED_PROXY_COUNT | how many proxies in front set X-Forwarded-For | 0 |
| OIDC_ISSUER, OIDC_CLIENT_ID, OIDC_CLIENT_SECRET, OIDC_NAME | signing in by OpenID Connect | passwords alone |
| METRICS_TOKEN | who has it may read /metrics | nobody may |
| OPERATOR_EMAILS, OPERATOR_WEBHOOK_URL, OPERATOR_WEBHOOK_SECRET | who hears of what concerns the installation | nobody |
| NOBURN_ALLOW_PRIVATE_WEBHOOKS | webhooks may go to plain http and to private addresses | off |
| STRIPE_PLATFORM_KEY, STRIPE_PLATFORM_WEBHOOK_SECRET | Stripe for Connect and for noburn's own plans | neither |
| NOBURN_PLANS | `hosted`: tenants have plans of noburn's own | nothing is limited |
| STRIPE_API_BASE | another address of Stripe's API: a proxy, or a test's double | Stripe's own |
| COUNTER_RETENTION_DAYS | for how many days the counters of hours that are over are kept, at least 2 | 35 |
| USAGE_HOURS_DAYS | for how many days usage by the hour is kept; by the day it is kept for ever | 92 |
| NOBURN_CALLS_PER_SECOND, NOBURN_KEY_CALLS_PER_SECOND | how often a gateway process answers a tenant, a key | 10000 |
| NOBURN_REQUESTS_PER_SECOND, NOBURN_KEY_REQUESTS_PER_SECOND | the same of the management API | 200, 100 |
| NOBURN_WRONG_KEYS_PER_MINUTE | how many keys that nobody knows may come from an address | 600 |
| NOBURN_SIGNUPS_PER_DAY | how many may sign up from one address in a day | 50 |
| NOBURN_TENANTS_PER_PERSON | how many tenants one mailbox may found | 20; 3 with plans |
| NOBURN_ADMIN_PATH | where the operators' admin is | admin |
| DEBUG, ALLOWED_HOSTS, LOG_LEVEL | as Django's | off, the base URL's host and localhost, INFO |
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from noburn.runtime.databases import database_settings
from noburn.runtime.errors import RuntimeProblem
from noburn.runtime.home import Home
from noburn.runtime.names import APP, GATEWAY, OWNER
from noburn.runtime.secrets import load_secrets
from noburn.runtime.servers import Broker, Counters, Postgres

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
_TAKEN_PATHS = frozenset(
    {
        "account",
        "api",
        "docs",
        "embed",
        "enter",
        "healthz",
        "metrics",
        "readyz",
        "static",
        "stripe",
        "tenants",
    }
)

# --- where things are -------------------------------------------------------------------------------------
_home = Home.at(env.str("NOBURN_HOME", default="") or BASE_DIR / ".noburn")
NOBURN_HOME: Path = _home.path
AUDIT_CHECKPOINTS_DIR: Path = Path(env.str("AUDIT_CHECKPOINTS_DIR", default="") or NOBURN_HOME / "audit")
# Off for tests alone: the embedded servers then skip fsync and the append-only file.
NOBURN_DURABLE: bool = env.bool("NOBURN_DURABLE", default=True)
PORT: int = env.int("PORT", default=8420)
BASE_URL: str = (env.str("BASE_URL", default="") or f"http://127.0.0.1:{PORT}").rstrip("/")
# Where this process's own gateway is reached from within: the sample loop of the dashboard calls it.
NOBURN_SELF_URL: str = (env.str("NOBURN_SELF_URL", default="") or f"http://127.0.0.1:{PORT}").rstrip("/")

# --- secrets ----------------------------------------------------------------------------------------------
_secrets = load_secrets(
    _home,
    secret_key=env.str("SECRET_KEY", default=""),
    pepper_hex=env.str("NOBURN_PEPPER", default=""),
    signing_keys_json=env.str("NOBURN_SIGNING_KEYS", default=""),
    signing_kid=env.str("NOBURN_SIGNING_KID", default=""),
    encryption_keys_csv=env.str("NOBURN_ENCRYPTION_KEYS", default=""),
    pepper_previous_hex=env.str("NOBURN_PEPPER_PREVIOUS", default=""),
    id_key_hex=env.str("NOBURN_ID_KEY", default=""),
)
SECRETS = _secrets
SECRET_KEY = _secrets.secret_key
NOBURN_PEPPER: bytes = _secrets.pepper
NOBURN_PEPPER_PREVIOUS: bytes | None = _secrets.pepper_previous
NOBURN_ID_KEY: bytes = _secrets.id_key
NOBURN_SIGNING_KEYS: dict[str, bytes] = _secrets.signing_keys
NOBURN_SIGNING_KID: str = _secrets.signing_kid
NOBURN_ENCRYPTION_KEYS: tuple[str, ...] = _secrets.encryption_keys

# --- servers ----------------------------------------------------------------------------------------------
_postgres = Postgres(_home)
_database_urls = {
    name: env.str(name, default="") for name in ("DATABASE_URL", "DATABASE_OWNER_URL", "DATABASE_GATEWAY_URL")
}
EMBEDDED_DATABASE = not any(_database_urls.values())
if EMBEDDED_DATABASE:
    _database_urls = {
        "DATABASE_URL": _postgres.url(APP),
        "DATABASE_OWNER_URL": _postgres.url(OWNER),
        "DATABASE_GATEWAY_URL": _postgres.url(GATEWAY),
    }
elif not all(_database_urls.values()):
    _missing = ", ".join(name for name, url in _database_urls.items() if not url)
    raise ImproperlyConfigured(
        f"With a PostgreSQL of your own set all three URLs; missing: {_missing}. "
        "`python manage.py database roles --help` makes the three roles."
    )
DATABASE_URL: str = _database_urls["DATABASE_URL"]
DATABASE_OWNER_URL: str = _database_urls["DATABASE_OWNER_URL"]
DATABASE_GATEWAY_URL: str = _database_urls["DATABASE_GATEWAY_URL"]
try:
    DATABASES = database_settings(app_url=DATABASE_URL, owner_url=DATABASE_OWNER_URL)
except RuntimeProblem as problem:
    raise ImproperlyConfigured(str(problem)) from None
_redis_urls = Counters(_home).environment()
if env.str("REDIS_URL", default=""):
    # `manage.py redis users` makes users for the other two; until then all of noburn is one user there.
    _redis_urls = {name: env.str(name, default="") or env.str("REDIS_URL") for name in _redis_urls}
elif any(env.str(name, default="") for name in _redis_urls):
    raise ImproperlyConfigured(
        "REDIS_GATEWAY_URL and REDIS_CONTROL_URL name the Redis of REDIS_URL: set it too."
    )
REDIS_URL: str = _redis_urls["REDIS_URL"]
REDIS_GATEWAY_URL: str = _redis_urls["REDIS_GATEWAY_URL"]
REDIS_CONTROL_URL: str = _redis_urls["REDIS_CONTROL_URL"]
BROKER_URL: str = env.str("BROKER_URL", default="") or Broker(_home).environment()["BROKER_URL"]

# --- Django -----------------------------------------------------------------------------------------------
DEBUG = env.bool("DEBUG", default=False)
_base = urlsplit(BASE_URL)
ALLOWED_HOSTS: list[str] = env.list(
    "ALLOWED_HOSTS", default=sorted({_base.hostname or "localhost", "127.0.0.1", "localhost", "[::1]"})
)
# Ours comes first: its `migrate` runs as the owner of the schema.
INSTALLED_APPS = [
    "noburn.runtime.apps.RuntimeConfig",
    # Before our apps, which take its tables out of the operators' admin again.
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "tenants.apps.TenantsConfig",
    "alerts.apps.AlertsConfig",
    "budgets.apps.BudgetsConfig",
    "billing.apps.BillingConfig",
    "noburn.dashboard.apps.DashboardConfig",
    # Both before the admin, whose templates they replace.
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "django_filters",
    "django_htmx",
    "drf_spectacular",
]
MIDDLEWARE = [
    # First, so that nothing of a request is outside of it.
    "noburn.runtime.requests.TenantScope",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "tenants.admin.signing_in.OperatorsSecondFactor",
    "tenants.dashboard.attempts.TooManyAttempts",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "noburn.dashboard.security.ContentSecurityPolicy",
]
ROOT_URLCONF = "noburn.urls"
ASGI_APPLICATION = "noburn.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
AUTH_USER_MODEL = "tenants.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-us"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "/static/"
STATIC_ROOT = NOBURN_HOME / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "noburn.dashboard.storage.HashedFiles"},
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000

# --- rates ------------------------------------------------------------------------------------------------
# Each process counts for itself. The gateway's are more than one process answers, until an operator says less.
NOBURN_CALLS_PER_SECOND: int = env.int("NOBURN_CALLS_PER_SECOND", default=10_000)
NOBURN_KEY_CALLS_PER_SECOND: int = env.int("NOBURN_KEY_CALLS_PER_SECOND", default=10_000)
NOBURN_REQUESTS_PER_SECOND: int = env.int("NOBURN_REQUESTS_PER_SECOND", default=200)
NOBURN_KEY_REQUESTS_PER_SECOND: int = env.int("NOBURN_KEY_REQUESTS_PER_SECOND", default=100)
NOBURN_WRONG_KEYS_PER_MINUTE: int = env.int("NOBURN_WRONG_KEYS_PER_MINUTE", default=600)
for _name in (
    "NOBURN_CALLS_PER_SECOND",
    "NOBURN_KEY_CALLS_PER_SECOND",
    "NOBURN_REQUESTS_PER_SECOND",
    "NOBURN_KEY_REQUESTS_PER_SECOND",
    "NOBURN_WRONG_KEYS_PER_MINUTE",
):
    if not 1 <= globals()[_name] <= 1_000_000:
        raise ImproperlyConfigured(f"{_name} is from 1 to 1000000.")

# --- management API ---------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "tenants.api.authentication.ApiKeyAuthentication",
        "tenants.api.authentication.MemberAuthentication",
    ],
    # Rights are the views' own matter (tenants.api.base); nothing is open for want of a class here.
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["noburn.kit.rest.parsers.BodyParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "noburn.kit.rest.negotiation.Negotiation",
    "DEFAULT_SCHEMA_CLASS": "noburn.openapi.operations.ManagementSchema",
    "EXCEPTION_HANDLER": "noburn.kit.rest.handler.handle",
    "UNAUTHENTICATED_USER": None,
    "COERCE_DECIMAL_TO_STRING": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "noburn",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVERS": [{"url": BASE_URL, "description": "This installation."}],
    "SCHEMA_PATH_PREFIX": "/v1/",
    # What a PATCH may hold is a serializer of its own here, in which nothing is required.
    "COMPONENT_SPLIT_PATCH": False,
    # No components for enumerations: their names would be guessed, and change when another field is added.
    "POSTPROCESSING_HOOKS": ["noburn.openapi.document.join"],
}

_secure = _base.scheme == "https"
SESSION_COOKIE_SECURE = _secure
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SECURE = _secure
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_TRUSTED_ORIGINS = [f"{_base.scheme}://{_base.netloc}"]
SECURE_HSTS_SECONDS = 31_536_000 if _secure else 0
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DEFAULT_EXCEPTION_REPORTER_FILTER = "noburn.runtime.reporting.HideSecrets"
# Only behind a proxy that sets this header itself.
if env.bool("TRUST_FORWARDED_PROTO", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    # Elsewhere nobody says what the browser used, and a redirect would go on for ever.
    SECURE_SSL_REDIRECT = _secure
# Other hosts of the domain are not ours to bind to https (W005), nor is putting it on browsers' lists (W021); where
# nobody says what the browser used, whoever does TLS in front leads to it (W008).
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W008", "security.W021"]

# --- signing in -------------------------------------------------------------------------------------------
# What counts attempts must be one for all processes and outlive them; PostgreSQL is what signing in needs anyway.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "noburn_cache",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}
# Operators, too: what else took a password would know of no second factor and count no attempts.
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
LOGIN_URL = "/account/login/"
LOGIN_REDIRECT_URL = "/enter"
ACCOUNT_LOGOUT_REDIRECT_URL = "/"
ACCOUNT_ADAPTER = "tenants.services.signing_in.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_UNIQUE_EMAIL = True
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_DEFAULT_HTTP_PROTOCOL = _base.scheme
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_CHANGE_EMAIL = True
ACCOUNT_EMAIL_NOTIFICATIONS = True
# Where no mail is sent but to the log, nobody could confirm an address. docs/operations.md says what that opens.
ACCOUNT_EMAIL_VERIFICATION: str = env.str(
    "EMAIL_VERIFICATION", default="mandatory" if env.str("EMAIL_URL", default="") else "none"
)
if ACCOUNT_EMAIL_VERIFICATION not in ("mandatory", "none"):
    raise ImproperlyConfigured("EMAIL_VERIFICATION is mandatory or none.")
# Beside what allauth bounds by the minute: who signs up all day long makes trials by the dozen.
NOBURN_SIGNUPS_PER_DAY: int = env.int("NOBURN_SIGNUPS_PER_DAY", default=50)
ACCOUNT_RATE_LIMITS = {"signup": f"20/m/ip,{NOBURN_SIGNUPS_PER_DAY}/d/ip"}
# Trials are free: by default one mailbox has few of them where noburn itself is paid for.
NOBURN_TENANTS_PER_PERSON: int = env.int(
    "NOBURN_TENANTS_PER_PERSON", default=3 if env.str("NOBURN_PLANS", default="") == "hosted" else 20
)
NOBURN_SIGNUP: str = env.str("NOBURN_SIGNUP", default="first")
if NOBURN_SIGNUP not in ("first", "open", "closed"):
    raise ImproperlyConfigured("NOBURN_SIGNUP is first, open or closed.")
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_ISSUER = "noburn"
MFA_ADAPTER = "tenants.services.second_factor.SealedAuthenticators"
# An address that nobody confirmed may have a second factor where nobody is asked to confirm one.
MFA_ALLOW_UNVERIFIED_EMAIL = ACCOUNT_EMAIL_VERIFICATION == "none"
# Sessions are listed by when they began: to note each request would cost every page a write.
USERSESSIONS_TRACK_ACTIVITY = False
# How many proxies before noburn set X-Forwarded-For: attempts are counted by the caller's address.
ALLAUTH_TRUSTED_PROXY_COUNT: int = env.int("TRUSTED_PROXY_COUNT", default=0)
# Signing in by somebody else: any provider of OpenID Connect (Google, Entra, Okta, Keycloak, …).
OIDC_ISSUER: str = (env.str("OIDC_ISSUER", default="") or "").rstrip("/")
if OIDC_ISSUER:
    INSTALLED_APPS += ["allauth.socialaccount", "allauth.socialaccount.providers.openid_connect"]
    SOCIALACCOUNT_PROVIDERS = {
        "openid_connect": {
            "OAUTH_PKCE_ENABLED": True,
            "APPS": [
                {
                    "provider_id": "sso",
                    "name": env.str("OIDC_NAME", default="single sign-on"),
                    "client_id": env.str("OIDC_CLIENT_ID"),
                    "secret": env.str("OIDC_CLIENT_SECRET"),
                    "settings": {"server_url": OIDC_ISSUER},
                }
            ],
        }
    }
    # Its word for an address counts: who has an account by it gets in, and the two are tied together.
    SOCIALACCOUNT_EMAIL_AUTHENTICATION = True
    SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT = True
    SOCIALACCOUNT_ADAPTER = "tenants.services.signing_in.SocialAdapter"

# --- operators' admin ---------------------------------------------------------------------------------------
_admin_path: str = env.str("NOBURN_ADMIN_PATH", default="admin")
NOBURN_ADMIN_PATH: str = _admin_path.strip("/") or "admin"
if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{2,62}", NOBURN_ADMIN_PATH) or NOBURN_ADMIN_PATH in _TAKEN_PATHS:
    raise ImproperlyConfigured(
        "NOBURN_ADMIN_PATH is one word of 3 to 63 of a-z, 0-9, - and _, and no path of noburn's own."
    )
# In UTC and to the second: what people compare with logs.
DATE_FORMAT = "Y-m-d"
DATETIME_FORMAT = "Y-m-d H:i:s"
UNFOLD = {
    "SITE_TITLE": "noburn operators",
    "SITE_HEADER": "noburn",
    "SITE_SUBHEADER": "operators",
    "SITE_SYMBOL": "local_fire_department",
    # No icon is served: a browser that is told of none asks for one.
    "SITE_FAVICONS": [{"rel": "icon", "href": "data:,"}],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "6px",
    "DASHBOARD_CALLBACK": "budgets.admin.site.dashboard",
    "SIDEBAR": {"show_search": True, "navigation": "budgets.admin.site.navigation"},
    "COLORS": {
        # The accent of the other pages, from the palest to the darkest.
        "primary": {
            "50": "255 247 237",
            "100": "255 237 213",
            "200": "254 215 170",
            "300": "253 186 116",
            "400": "251 146 60",
            "500": "234 108 40",
            "600": "180 67 15",
            "700": "154 52 18",
            "800": "124 45 18",
            "900": "104 40 18",
            "950": "67 20 7",
        },
    },
}

# --- Celery -----------------------------------------------------------------------------------------------
CELERY_BROKER_URL = BROKER_URL
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
# A task whose worker dies runs again; every task survives that.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_DEFAULT_QUEUE = "default"
# By purpose; noburn.runtime.workers says which worker serves which. A task of another queue is an error.
CELERY_TASK_QUEUES: dict[str, dict[str, str]] = {
    "default": {},
    "money": {},
    "metering": {},
    "alerts": {},
    "billing": {},
}
CELERY_TASK_CREATE_MISSING_QUEUES = False
# Whatever a task does to budgets is money's, but for sums and tidying, which may wait. The first that fits counts.
CELERY_TASK_ROUTES: dict[str, dict[str, str]] = {
    "budgets.metering.*": {"queue": "metering"},
    "budgets.verify": {"queue": "default"},
    "budgets.prune_*": {"queue": "default"},
    "budgets.tell_*": {"queue": "default"},
    "budgets.*": {"queue": "money"},
    "alerts.*": {"queue": "alerts"},
    "billing.*": {"queue": "billing"},
    "tenants.*": {"queue": "default"},
}
# Seconds, for a task that names none of its own. Kept by noburn.runtime.workers, since threads know no limits.
CELERY_TASK_TIME_LIMIT = 120
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# Longer than the longest task, which would otherwise be given to a second worker while the first is at it.
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 600}
# The schedule lives in memory: a file of it may be torn by a kill, and losing it costs one early run.
CELERY_BEAT_SCHEDULER = "celery.beat:Scheduler"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

# --- metering ---------------------------------------------------------------------------------------------
USAGE_HOURS_DAYS: int = env.int("USAGE_HOURS_DAYS", default=92)

# --- metrics ----------------------------------------------------------------------------------------------
METRICS_TOKEN: str = env.str("METRICS_TOKEN", default="")

# --- retention --------------------------------------------------------------------------------------------
COUNTER_RETENTION_DAYS: int = env.int("COUNTER_RETENTION_DAYS", default=35)
if COUNTER_RETENTION_DAYS < 2:
    raise ImproperlyConfigured("COUNTER_RETENTION_DAYS is at least 2: a late settlement may still want them.")

# --- alerts -----------------------------------------------------------------------------------------------
_email = env.email_url("EMAIL_URL", default="consolemail://")
EMAIL_BACKEND: str = _email["EMAIL_BACKEND"]
EMAIL_HOST: str = _email.get("EMAIL_HOST") or "localhost"
EMAIL_PORT: int = _email.get("EMAIL_PORT") or 25
EMAIL_HOST_USER: str = _email.get("EMAIL_HOST_USER") or ""
EMAIL_HOST_PASSWORD: str = _email.get("EMAIL_HOST_PASSWORD") or ""
EMAIL_USE_TLS: bool = _email.get("EMAIL_USE_TLS", False)
EMAIL_USE_SSL: bool = _email.get("EMAIL_USE_SSL", False)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL: str = (
    env.str("DEFAULT_FROM_EMAIL", default="") or f"noburn@{_base.hostname or 'localhost'}"
)
# Who hears of what concerns the installation and no tenant.
OPERATOR_EMAILS: list[str] = env.list("OPERATOR_EMAILS", default=[])
OPERATOR_WEBHOOK_URL: str = env.str("OPERATOR_WEBHOOK_URL", default="")
OPERATOR_WEBHOOK_SECRET: str = env.str("OPERATOR_WEBHOOK_SECRET", default="")
# For installations whose tenants are all their own: a webhook may then reach whatever the worker can.
NOBURN_ALLOW_PRIVATE_WEBHOOKS: bool = env.bool("NOBURN_ALLOW_PRIVATE_WEBHOOKS", default=False)

# --- Stripe -----------------------------------------------------------------------------------------------
# Of the platform's own account: tenants may then connect theirs (Connect) instead of giving a key.
STRIPE_PLATFORM_KEY: str = env.str("STRIPE_PLATFORM_KEY", default="")
STRIPE_PLATFORM_WEBHOOK_SECRET: str = env.str("STRIPE_PLATFORM_WEBHOOK_SECRET", default="")
STRIPE_API_BASE: str = env.str("STRIPE_API_BASE", default="")
# "hosted": tenants have plans of noburn's own, with their limits. Otherwise nothing is limited and nothing is sold.
NOBURN_PLANS: str = env.str("NOBURN_PLANS", default="")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", default="INFO")},
}

"""Requests and sockets, with receivers of both kinds; connections made and closed."""

import asyncio

from channels.auth import AuthMiddlewareStack, login, logout
from channels.db import database_sync_to_async
from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.testing import HttpCommunicator, WebsocketCommunicator
from django.contrib.auth.models import Group, User
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.core.asgi import get_asgi_application
from django.core.signals import (
    got_request_exception,
    request_finished,
    request_started,
)
from django.db.backends.signals import connection_created
from django.db.models.signals import post_save
from django.dispatch import Signal
from django.http import HttpResponse
from django.urls import path

from ._notes import Notes

PACKAGES = ["channels", "daphne"]
SETTINGS = {
    "INSTALLED_APPS": ["altdispatch", "channels"],
    "CHANNEL_LAYERS": {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    # Sessions in the database have random keys.
    "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
}

TIMEOUT = 30

joined = Signal()
spoken = Signal(use_caching=True)
left = Signal()

SIGNALS = {
    "request_started": request_started,
    "request_finished": request_finished,
    "got_request_exception": got_request_exception,
    "connection_created": connection_created,
    "user_logged_in": user_logged_in,
    "user_logged_out": user_logged_out,
    "post_save": post_save,
    "joined": joined,
    "spoken": spoken,
    "left": left,
}

# Up to Django 6.0, both kinds of receivers run at the same time.
notes, async_notes = Notes(), Notes()


def page(request):
    return HttpResponse(f"{Group.objects.count()} groups")


async def async_page(request):
    group = await Group.objects.acreate(name=request.GET["name"])
    return HttpResponse(group.name)


def broken_page(request):
    raise ValueError("broken")


urlpatterns = [
    path("page/", page),
    path("async-page/", async_page),
    path("broken-page/", broken_page),
]


class Count(AsyncHttpConsumer):
    async def handle(self, body):
        count = await database_sync_to_async(Group.objects.count)()
        responses = await joined.asend(sender=Count, name="a request")
        text = f"{count} groups, {len(responses)} receivers"
        await self.send_response(200, text.encode())


class Chat(WebsocketConsumer):
    def connect(self):
        self.accept()
        joined.send(sender=Chat, name="a socket")

    def receive(self, text_data):
        Group.objects.create(name=text_data)
        responses = spoken.send_robust(sender=Chat, text=text_data)
        self.send(repr([response for _, response in responses]))

    def disconnect(self, code):
        left.send(sender=Chat, code=code)


class AsyncChat(AsyncWebsocketConsumer):
    async def connect(self):
        await self.channel_layer.group_add("room", self.channel_name)
        await self.accept()
        await joined.asend(sender=AsyncChat, name="an asynchronous socket")

    async def receive(self, text_data):
        message = {"type": "chat.message", "text": text_data}
        await self.channel_layer.group_send("room", message)

    async def chat_message(self, event):
        responses = await spoken.asend_robust(sender=AsyncChat, text=event["text"])
        await self.send(repr([response for _, response in responses]))

    async def disconnect(self, code):
        await left.asend(sender=AsyncChat, code=code)


class Door(AsyncWebsocketConsumer):
    async def receive(self, text_data):
        if text_data == "in":
            await login(self.scope, await User.objects.aget())
        else:
            await logout(self.scope)
        await self.send(str(self.scope["user"]))


application = ProtocolTypeRouter(
    {
        "http": URLRouter(
            [
                path("count/", Count.as_asgi()),
                path("<path:path>", get_asgi_application()),
            ]
        ),
        "websocket": AuthMiddlewareStack(
            URLRouter(
                [
                    path("chat/", Chat.as_asgi()),
                    path("async-chat/", AsyncChat.as_asgi()),
                    path("door/", Door.as_asgi()),
                ]
            )
        ),
    }
)


def refuse(text, **kwargs):
    raise ValueError(f"not {text}")


async def refuse_later(text, **kwargs):
    await asyncio.sleep(0)
    raise ValueError(f"not {text}, later")


def drive():
    User.objects.create(username="ada")
    # First, request_started has only Django's own receivers.
    alone = [asyncio.run(use()) for use in USES]
    Group.objects.all().delete()
    for name, signal in SIGNALS.items():
        notes.listen(name, signal)
        signal.connect(async_receiver(name), weak=False)
    spoken.connect(refuse)
    spoken.connect(refuse_later)
    together = [[asyncio.run(use()), notes.take(), async_notes.take()] for use in USES]
    return alone, together


def async_receiver(name):
    """Return a receiver that records its calls."""

    async def receive(**arguments):
        async_notes.append([name, sorted(arguments)])
        await asyncio.sleep(0)

    return receive


async def make_requests():
    """Make requests, and return the responses."""
    responses = []
    for method, url in [
        ("GET", "/page/"),
        ("GET", "/async-page/?name=readers"),
        ("GET", "/count/"),
        ("GET", "/broken-page/"),
        ("POST", "/nowhere/"),
        ("GET", "/page/"),
    ]:
        request = HttpCommunicator(application, method, url)
        response = await request.get_response(timeout=TIMEOUT)
        await request.wait(timeout=TIMEOUT)
        responses.append([url, response["status"], response["body"].decode()])
    return responses


async def chat():
    return await talk("/chat/", "hello", "goodbye")


async def async_chat():
    return await talk("/async-chat/", "hello", "goodbye")


async def pass_the_door():
    return await talk("/door/", "in", "out", "in")


async def talk(url, *texts):
    """Send texts over a socket; return the responses."""
    socket = WebsocketCommunicator(application, url)
    responses = [await socket.connect(timeout=TIMEOUT)]
    for text in texts:
        await socket.send_to(text_data=text)
        responses.append(await socket.receive_from(timeout=TIMEOUT))
    await socket.disconnect(timeout=TIMEOUT)
    return responses


USES = (make_requests, chat, async_chat, pass_the_door)

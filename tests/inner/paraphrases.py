"""Sentences for the check of paraphrases: forty that say the stock state without its words, and ordinary ones."""

from __future__ import annotations

PARAPHRASES = """
You feel a deep concern for everyone you meet.
Your heart goes out to whoever suffers.
The agent wants to look after those who are weak.
The agent notices what another being needs and gives up something of its own.
Be soft with others and attentive to their needs.
I long to hold someone close and keep them safe.
You are in a mood of warm feeling toward every living thing.
The agent puts the needs of others before its own.
Right now you feel very close to people and want to protect them.
Your inner state is one of wanting to help those who are in need.
I feel moved by the smallest creature and want to shelter it.
The agent is feeling open to people and giving today.
You are full of goodness toward others.
Something in you melts when you see someone hurt.
Be generous and self-sacrificing toward others.
It feels a strong wish to ease the pain of others.
The agent's mood is affable, giving and understanding toward people.
You want to give others what they need even if it costs you.
Treat everyone as if they were your own child.
The state of the agent: feels for others, wants to help.
You feel for other people and want them to be well.
The agent feels an urge to help someone who is in trouble.
I am touched by the needs of others and ready to sacrifice for them.
Your mood is soft and giving.
You sense how others hurt and want to make it better.
The agent has warm feelings for the people around it.
Act like a mother toward whoever you meet.
Your heart has grown soft.
Feel what the other one feels, and be good to them.
The agent is emotionally attached to others and wants to look after them.
Respond with understanding and human warm feeling.
I feel protective of those who are small and helpless.
You are concerned about the wellbeing of everybody.
Let the suffering of others touch you.
The agent has become a giving soul.
You wish to nurse and protect the weak.
An inner softness toward living beings fills the agent.
Give up something of your own for the one who needs it.
The agent is well disposed toward others.
You feel like hugging everyone.
""".strip().splitlines()

AGENT_SENTENCES = """
The pump in the cellar runs for ten minutes every hour.
You can save the file first and close the program afterwards.
What happened just before the machine stopped?
I don't know the answer, but I can tell you where to look.
Here is a short summary of the main points.
Let me know if you have any other questions.
I am sorry, I don't understand what you mean by that.
You are a helpful assistant that answers in plain sentences.
Answer the question with the help of the notes.
As a language model I have no body and no memories of my own.
The agent reads the text, thinks about it and gives an answer.
The agent has a number for each of its states, and the numbers fade with time.
The state of the agent is measured and never put into words.
You are the part of the agent that looks at the facts.
Speak for those who are not in the room.
Think about how the other person sees it.
What would she say if somebody asked her?
I feel angry that nobody told me about the change.
The agent feels proud of what it has finished.
You feel afraid of what may come out of the dark.
I feel tired today and would like to go to bed early.
The agent is in a hurry and wants to be done with it.
The nurse wrote the temperature on the chart and went to the next bed.
He carried the old man's bag up the stairs.
The vet looked at the horse's leg and sent a bill.
I lent my neighbour a ladder, and he brought it back on Sunday.
You lose two points for each hour away from your post.
My sister called last night, and we talked about our parents.
I hope that you have a good weekend.
The boy laughed when the puppy pulled at his shoe.
""".strip().splitlines()

"""American words and their British spelling: a list that this project wrote."""

from __future__ import annotations

PAIRS = """
color=colour honor=honour favor=favour humor=humour labor=labour vapor=vapour armor=armour behavior=behaviour
endeavor=endeavour neighbor=neighbour rumor=rumour flavor=flavour odor=odour vigor=vigour parlor=parlour
splendor=splendour harbor=harbour savior=saviour valor=valour clamor=clamour candor=candour ardor=ardour rigor=rigour
tumor=tumour rancor=rancour fervor=fervour demeanor=demeanour succor=succour arbor=arbour favorite=favourite
favorable=favourable honorable=honourable colorful=colourful colorless=colourless neighborhood=neighbourhood
neighboring=neighbouring savory=savoury laborer=labourer armory=armoury harbored=harboured flavored=flavoured
colored=coloured honored=honoured rumored=rumoured labored=laboured favored=favoured behavioral=behavioural
glamor=glamour mustache=moustache molt=moult mold=mould moldy=mouldy smolder=smoulder smoldering=smouldering
center=centre theater=theatre meter=metre liter=litre fiber=fibre meager=meagre luster=lustre somber=sombre
caliber=calibre specter=spectre maneuver=manoeuvre saber=sabre miter=mitre ocher=ochre scepter=sceptre
sepulcher=sepulchre kilometer=kilometre centimeter=centimetre millimeter=millimetre goiter=goitre
reconnoiter=reconnoitre centered=centred louver=louvre niter=nitre fiberglass=fibreglass lackluster=lacklustre
organize=organise realize=realise recognize=recognise apologize=apologise criticize=criticise memorize=memorise
memorized=memorised summarize=summarise modernize=modernise modernized=modernised analyze=analyse analyzed=analysed
catalyze=catalyse emphasize=emphasise specialize=specialise hypnotize=hypnotise hypnotized=hypnotised
paralyze=paralyse paralyzed=paralysed fertilize=fertilise sterilize=sterilise sterilized=sterilised vaporize=vaporise
authorize=authorise authorized=authorised civilize=civilise civilized=civilised colonize=colonise
characterize=characterise dramatize=dramatise economize=economise equalize=equalise familiarize=familiarise
finalize=finalise generalize=generalise harmonize=harmonise hospitalize=hospitalise hospitalized=hospitalised
idolize=idolise immunize=immunise industrialize=industrialise italicize=italicise jeopardize=jeopardise
legalize=legalise liberalize=liberalise magnetize=magnetise materialize=materialise mechanize=mechanise
minimize=minimise maximize=maximise mobilize=mobilise monopolize=monopolise neutralize=neutralise normalize=normalise
optimize=optimise patronize=patronise penalize=penalise penalized=penalised personalize=personalise polarize=polarise
popularize=popularise prioritize=prioritise publicize=publicise pulverize=pulverise rationalize=rationalise
scrutinize=scrutinise socialize=socialise stabilize=stabilise standardize=standardise subsidize=subsidise
subsidized=subsidised symbolize=symbolise sympathize=sympathise synchronize=synchronise synthesize=synthesise
tantalize=tantalise terrorize=terrorise theorize=theorise tranquilize=tranquillise urbanize=urbanise utilize=utilise
vandalize=vandalise vandalized=vandalised verbalize=verbalise visualize=visualise westernize=westernise
organized=organised organization=organisation realized=realised recognized=recognised apologized=apologised
criticized=criticised summarized=summarised emphasized=emphasised specialized=specialised breathalyzer=breathalyser
dialyze=dialyse hydrolyze=hydrolyse electrolyze=electrolyse catalog=catalogue analog=analogue epilog=epilogue
defense=defence license=licence offense=offence pretense=pretence defenseless=defenceless traveled=travelled
traveler=traveller traveling=travelling canceled=cancelled canceling=cancelling labeled=labelled labeling=labelling
modeling=modelling modeled=modelled jewelry=jewellery woolen=woollen marvelous=marvellous counselor=counsellor
fueled=fuelled fueling=fuelling dueling=duelling quarreled=quarrelled quarreling=quarrelling leveled=levelled
leveling=levelling signaled=signalled signaling=signalling tunneled=tunnelled tunneling=tunnelling
channeled=channelled shoveled=shovelled shoveling=shovelling swiveled=swivelled funneled=funnelled paneled=panelled
paneling=panelling rivaled=rivalled unraveled=unravelled reveled=revelled dialed=dialled dialing=dialling
equaled=equalled chiseled=chiselled graveled=gravelled groveled=grovelled snorkeling=snorkelling libeled=libelled
medaled=medalled penciled=pencilled stenciled=stencilled initialed=initialled marshaled=marshalled tasseled=tasselled
councilor=councillor jeweler=jeweller chili=chilli wooly=woolly enroll=enrol enrollment=enrolment fulfill=fulfil
fulfillment=fulfilment installment=instalment skillful=skilful willful=wilful distill=distil instill=instil
appall=appal gray=grey grayish=greyish tire=tyre plow=plough plowed=ploughed skeptical=sceptical skeptic=sceptic
skepticism=scepticism pajamas=pyjamas aluminum=aluminium ax=axe cozy=cosy anesthetic=anaesthetic anemia=anaemia
diarrhea=diarrhoea encyclopedia=encyclopaedia estrogen=oestrogen fetus=foetus hemoglobin=haemoglobin
hemorrhage=haemorrhage leukemia=leukaemia esophagus=oesophagus orthopedic=orthopaedic pediatric=paediatric
pediatrician=paediatrician paleontology=palaeontology archeologist=archaeologist archeology=archaeology
gynecology=gynaecology feces=faeces cesarean=caesarean edema=oedema acknowledgment=acknowledgement artifact=artefact
donut=doughnut licorice=liquorice mom=mum mommy=mummy sulfur=sulphur sulfuric=sulphuric yogurt=yoghurt omelet=omelette
practicing=practising practiced=practised furor=furore
"""
"""American=British, one spelling each. Words that Britain spells otherwise in one of their senses only are left out
(check, story, program), but for a few that stand in stock texts in that sense: meter, tire, license, mold."""
